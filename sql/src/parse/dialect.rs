//! sqlparser's PostgreSQL dialect with a bound on the work of one statement.
//!
//! sqlparser tries alternatives and goes back; nested, that takes time exponential in the depth
//! (`f(f(f(..)))`, or `CAST(CAST(..` with an error inside). The common case is switched off
//! (names of arguments that are expressions), the others run out of [`FUEL`].

use std::any::TypeId;
use std::cell::Cell;

use sqlparser::ast::Expr;
use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};

/// Operands that may be begun per token of a statement; a plain statement begins less than one.
const PER_TOKEN: usize = 40;
/// Operands that may be begun besides.
const BASE: usize = 2000;

thread_local! {
    /// Operands that may still be begun by the parser running on this thread.
    static FUEL: Cell<usize> = const { Cell::new(0) };
}

/// Gives the parser that runs next on this thread its share of work.
pub(super) fn refuel(tokens: usize) {
    FUEL.set(BASE + PER_TOKEN * tokens);
}

/// The dialect. sqlparser is told that it is its own PostgreSQL dialect.
#[derive(Debug)]
pub(super) struct Bounded(PostgreSqlDialect);

impl Bounded {
    pub(super) const fn new() -> Self {
        Bounded(PostgreSqlDialect {})
    }
}

/// Answers as PostgreSQL's dialect does.
macro_rules! as_postgresql {
    ($($name:ident),* $(,)?) => {
        $(fn $name(&self) -> bool {
            self.0.$name()
        })*
    };
}

impl Dialect for Bounded {
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn parse_prefix(&self, _parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        FUEL.with(|fuel| match fuel.get().checked_sub(1) {
            Some(left) => {
                fuel.set(left);
                None
            }
            None => Some(Err(ParserError::RecursionLimitExceeded)),
        })
    }

    // Would parse every argument of a function twice, so nested calls 2^depth times.
    fn supports_named_fn_args_with_expr_name(&self) -> bool {
        false
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        self.0.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        self.0.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        self.0.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        self.0.is_identifier_part(ch)
    }

    fn is_reserved_for_identifier(&self, kw: Keyword) -> bool {
        self.0.is_reserved_for_identifier(kw)
    }

    fn is_custom_operator_part(&self, ch: char) -> bool {
        self.0.is_custom_operator_part(ch)
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        self.0.get_next_precedence(parser)
    }

    fn prec_value(&self, prec: Precedence) -> u8 {
        self.0.prec_value(prec)
    }

    as_postgresql! {
        supports_unicode_string_literal,
        supports_filter_during_aggregation,
        supports_group_by_expr,
        allow_extract_custom,
        allow_extract_single_quotes,
        supports_create_index_with_clause,
        supports_explain_with_utility_options,
        supports_listen_notify,
        supports_factorial_operator,
        supports_bitwise_shift_operators,
        supports_comment_on,
        supports_load_extension,
        supports_named_fn_args_with_colon_operator,
        supports_empty_projections,
        supports_nested_comments,
        supports_string_escape_constant,
        supports_numeric_literal_underscores,
        supports_array_typedef_with_brackets,
        supports_geometric_types,
        supports_set_names,
        supports_alter_column_type_using,
        supports_notnull_operator,
        supports_interval_options,
        supports_insert_table_alias,
        supports_create_table_like_parenthesized,
        supports_select_wildcard_with_alias,
        supports_comma_separated_trim,
        supports_xml_expressions,
        supports_comment_optimizer_hint,
    }
}
