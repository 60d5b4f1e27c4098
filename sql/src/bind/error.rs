//! DataFusion's planning errors in PostgreSQL's words. The only place that knows both.

use auspex_plan::diagnostic::did_you_mean;
use auspex_plan::{ColumnType, Diagnostic, Span, SqlState};
use datafusion::common::{Column, DataFusionError, SchemaError};
use sqlparser::ast;
use sqlparser::tokenizer::Location;

use super::names::{self, MARK};
use crate::source::Source;

/// Translates `error`, which arose from planning `node`.
pub(crate) fn planning<V: ast::Visit>(
    error: DataFusionError,
    node: &V,
    source: &Source,
) -> Diagnostic {
    let place = error.diagnostic().and_then(|d| d.span).and_then(|span| {
        let location = |l: datafusion::common::Location| Location::new(l.line, l.column);
        Some(Span::new(source.offset(location(span.start))?, source.offset(location(span.end))?))
    });
    let found = translate(error);
    let named = found.name.as_ref().and_then(|(qualifier, name)| {
        locate(node, qualifier.as_deref(), name).and_then(|s| source.span(s))
    });
    clean(found.diagnostic.at_opt(named).at_opt(place))
}

/// Translates an error that has no place in the text.
pub(crate) fn unplaced(error: DataFusionError) -> Diagnostic {
    clean(translate(error).diagnostic)
}

/// The names we made up do not appear in messages.
fn clean(mut diagnostic: Diagnostic) -> Diagnostic {
    if diagnostic.message.contains(MARK) {
        diagnostic.message =
            diagnostic
                .message
                .split(MARK)
                .enumerate()
                .map(|(i, part)| {
                    if i == 0 {
                        part
                    } else {
                        part.trim_start_matches(|c: char| c.is_ascii_digit())
                    }
                })
                .collect();
    }
    diagnostic
}

struct Translated {
    diagnostic: Diagnostic,
    /// What to look for in the text: qualifier and name.
    name: Option<(Option<String>, String)>,
}

impl From<Diagnostic> for Translated {
    fn from(diagnostic: Diagnostic) -> Self {
        Translated { diagnostic, name: None }
    }
}

fn translate(error: DataFusionError) -> Translated {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            translate(*inner)
        }
        DataFusionError::Collection(mut all) if !all.is_empty() => translate(all.remove(0)),
        DataFusionError::Shared(inner) => match inner.as_ref() {
            DataFusionError::SchemaError(e, _) => schema(e),
            other => message(&other.strip_backtrace()),
        },
        DataFusionError::External(inner) => match inner.downcast::<Diagnostic>() {
            Ok(diagnostic) => Translated::from(*diagnostic),
            Err(other) => message(&other.to_string()),
        },
        DataFusionError::SchemaError(error, _) => schema(&error),
        DataFusionError::NotImplemented(text) => Diagnostic::unsupported(first_line(&text)).into(),
        DataFusionError::ArrowError(error, _) => arrow(&error).into(),
        other => message(&other.strip_backtrace()),
    }
}

fn schema(error: &SchemaError) -> Translated {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => unknown_column(field, valid_fields),
        SchemaError::AmbiguousReference { field } => Translated {
            diagnostic: Diagnostic::error(
                SqlState::AMBIGUOUS_COLUMN,
                format!("column reference \"{}\" is ambiguous", field.name()),
            ),
            name: Some((None, field.name().to_string())),
        },
        SchemaError::DuplicateQualifiedField { qualifier, .. } => Translated {
            diagnostic: Diagnostic::error(
                SqlState("42712"),
                format!("table name \"{}\" specified more than once", qualifier.table()),
            ),
            name: None,
        },
        SchemaError::DuplicateUnqualifiedField { name } => Diagnostic::error(
            SqlState::DUPLICATE_COLUMN,
            format!("column \"{name}\" specified more than once"),
        )
        .into(),
    }
}

fn unknown_column(field: &Column, valid: &[Column]) -> Translated {
    let name = Some((field.relation.as_ref().map(|r| r.table().to_string()), field.name.clone()));
    if let Some(relation) = &field.relation
        && !valid.iter().any(|v| v.relation.as_ref().is_some_and(|r| r.table() == relation.table()))
    {
        let text = format!("missing FROM-clause entry for table \"{}\"", relation.table());
        return Translated { diagnostic: Diagnostic::error(SqlState::UNDEFINED_TABLE, text), name };
    }
    let text = match &field.relation {
        Some(relation) => format!("column {}.{} does not exist", relation.table(), field.name),
        None => format!("column \"{}\" does not exist", field.name),
    };
    let mut diagnostic = Diagnostic::error(SqlState::UNDEFINED_COLUMN, text);
    let names = valid.iter().map(|v| v.name.as_str()).filter(|n| !n.contains(MARK));
    if let Some(near) = did_you_mean(&field.name, names) {
        diagnostic =
            diagnostic.hint(format!("Perhaps you meant to reference the column \"{near}\"."));
    }
    Translated { diagnostic, name }
}

fn arrow(error: &arrow::error::ArrowError) -> Diagnostic {
    use arrow::error::ArrowError as A;
    match error {
        A::DivideByZero => Diagnostic::error(SqlState::DIVISION_BY_ZERO, "division by zero"),
        A::ArithmeticOverflow(_) => {
            Diagnostic::error(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range")
        }
        A::CastError(text) | A::ParseError(text) => {
            Diagnostic::error(SqlState::INVALID_TEXT_REPRESENTATION, first_line(text))
        }
        other => Diagnostic::error(SqlState::INTERNAL_ERROR, first_line(&other.to_string())),
    }
}

/// Errors that DataFusion only gives as text.
fn message(text: &str) -> Translated {
    let text = ["Error during planning: ", "type_coercion\ncaused by\n", "Execution error: "]
        .iter()
        .fold(text, |t, prefix| t.strip_prefix(prefix).unwrap_or(t));
    if let Some(found) = function_error(text).or_else(|| operator_error(text)) {
        return found;
    }
    let diagnostic = if text.contains("must appear in the GROUP BY clause")
        || text.contains("must be part of an aggregate function")
    {
        let column = between(text, "column \"", "\"").unwrap_or("");
        let name = column.rsplit('.').next().unwrap_or(column).to_string();
        return Translated {
            diagnostic: Diagnostic::error(
                SqlState("42803"),
                format!(
                    "column \"{column}\" must appear in the GROUP BY clause or be used in an aggregate function"
                ),
            ),
            name: Some((None, name)),
        };
    } else if text.contains("different number of columns")
        || text.contains("equal number of columns")
    {
        Diagnostic::syntax("each UNION query must have the same number of columns")
    } else if text.contains("Inconsistent data length") {
        Diagnostic::syntax("VALUES lists must all be the same length")
    } else if text.contains("Order by column out of bounds")
        || text.contains("Order by index starts at 1")
    {
        Diagnostic::error(
            SqlState::INVALID_COLUMN_REFERENCE,
            "ORDER BY position is not in select list",
        )
    } else if text.contains("Group by column out of bounds") || text.contains("GROUP BY position") {
        Diagnostic::error(
            SqlState::INVALID_COLUMN_REFERENCE,
            "GROUP BY position is not in select list",
        )
    } else if text.contains("should only return one column")
        || text.contains("should return one column")
    {
        Diagnostic::syntax("subquery must return only one column")
    } else if text.contains("ORDER BY expressions") && text.contains("SELECT DISTINCT") {
        Diagnostic::error(
            SqlState::INVALID_COLUMN_REFERENCE,
            "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
        )
    } else if text.contains("non-boolean") || text.contains("Boolean") && text.contains("filter") {
        Diagnostic::error(SqlState::DATATYPE_MISMATCH, "argument of WHERE must be type boolean")
    } else if let Some(what) = text.strip_prefix("This feature is not implemented: ") {
        Diagnostic::unsupported(first_line(what))
    } else if text.contains("Unsupported") || text.contains("not supported") {
        Diagnostic::unsupported(first_line(text))
    } else if text.contains("Cannot cast") || text.contains("Unsupported CAST") {
        Diagnostic::error(SqlState::CANNOT_COERCE, first_line(text))
    } else {
        Diagnostic::error(SqlState("42000"), first_line(text))
    };
    diagnostic.into()
}

fn function_error(text: &str) -> Option<Translated> {
    if let Some(name) = between(text, "Invalid function '", "'") {
        let mut diagnostic = Diagnostic::error(
            SqlState::UNDEFINED_FUNCTION,
            format!("function {name} does not exist"),
        );
        if let Some(near) = between(text, "Did you mean '", "'") {
            diagnostic = diagnostic.hint(format!("Perhaps you meant \"{near}\"."));
        }
        return Some(Translated { diagnostic, name: Some((None, name.to_string())) });
    }
    let name = between(text, "No function matches the given name and argument types '", "'")
        .map(|call| call.to_string())
        .or_else(|| between(text, "function '", "'").map(str::to_string))
        .or_else(|| between(text, "Function '", "'").map(str::to_string))?;
    let (bare, call) = match name.split_once('(') {
        Some((bare, types)) => {
            let types: Vec<String> =
                types.trim_end_matches(')').split(", ").map(type_word).collect();
            (bare.to_string(), format!("{bare}({})", types.join(", ")))
        }
        None => (name.clone(), name.clone()),
    };
    Some(Translated {
        diagnostic: Diagnostic::error(
            SqlState::UNDEFINED_FUNCTION,
            format!("function {call} does not exist"),
        )
        .hint("No function matches the given name and argument types. You might need to add explicit type casts."),
        name: Some((None, bare)),
    })
}

fn operator_error(text: &str) -> Option<Translated> {
    let operation = text
        .split_once("Cannot infer common argument type for comparison operation ")
        .map(|(_, rest)| first_line(rest))
        .or_else(|| {
            between(text, "Cannot coerce arithmetic expression ", " to valid types")
                .map(str::to_string)
        })
        .or_else(|| {
            text.split_once("Cannot infer common argument type for ")
                .and_then(|(_, rest)| rest.split_once("operation "))
                .map(|(_, rest)| first_line(rest))
        })?;
    let operators =
        ["<=", ">=", "!=", "=", "<", ">", "+", "-", "*", "/", "%", "||", "AND", "OR", "~"];
    let words: Vec<&str> = operation.split(' ').collect();
    let at = words.iter().position(|w| operators.contains(w) || w.starts_with("IS"))?;
    let left = type_word(&words[..at].join(" "));
    let right = type_word(&words[at + 1..].join(" "));
    Some(Translated::from(
        Diagnostic::error(
            SqlState::UNDEFINED_FUNCTION,
            format!("operator does not exist: {left} {} {right}", words[at]),
        )
        .hint("No operator matches the given name and argument types. You might need to add explicit type casts."),
    ))
}

/// PostgreSQL's name for an Arrow type written by DataFusion.
fn type_word(arrow: &str) -> String {
    use arrow::datatypes::DataType;
    match arrow.trim().parse::<DataType>().ok().and_then(|t| ColumnType::from_arrow(&t)) {
        Some(column_type) => column_type.to_string(),
        None => arrow.trim().to_string(),
    }
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or(text).trim_end_matches('.');
    let mut chars = line.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(line.chars().skip(1)).collect()
        }
        _ => line.to_string(),
    }
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}

/// The first place where a name is written.
pub(crate) fn locate<V: ast::Visit>(
    node: &V,
    qualifier: Option<&str>,
    name: &str,
) -> Option<sqlparser::tokenizer::Span> {
    use std::ops::ControlFlow;
    let found = ast::visit_expressions(node, |expr| {
        let span = match expr {
            ast::Expr::Identifier(ident) if names::fold(ident) == name => Some(ident.span),
            ast::Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [.., of, last]
                    if names::fold(last) == name
                        && qualifier.is_none_or(|q| names::fold(of) == q) =>
                {
                    Some(of.span.union(&last.span))
                }
                _ => None,
            },
            ast::Expr::Function(function) => function
                .name
                .0
                .last()
                .and_then(|p| p.as_ident())
                .filter(|ident| names::fold(ident).eq_ignore_ascii_case(name))
                .map(|ident| ident.span),
            _ => None,
        };
        match span {
            Some(span) => ControlFlow::Break(span),
            None => ControlFlow::Continue(()),
        }
    });
    match found {
        ControlFlow::Break(span) => Some(span),
        ControlFlow::Continue(()) => None,
    }
}
