//! Expressions: AST to plan, with types.

use std::collections::BTreeMap;

use auspex_plan::ColumnType;
use auspex_plan::diagnostic::{Span, SqlState};
use auspex_plan::relation::SYSTEM_COLUMNS;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{Case, Expr as PlanExpr, lit};

use super::calls::{call, our};
use super::declarations::Declarations;
use super::operators::{binary, compare, fold_binary, negate};
use super::problem::{Result, arguments, error, hint, mismatch, missing, unknown};
use super::row::Row;
use super::value::{Extent, Value, coerce, common_of, convert, duration, exactly, is_text, text};
use crate::ast::{BinaryOp, Expr, ExprKind, Ident, UnaryOp};
use crate::codes;

/// Deepest nesting of one expression, function calls included.
const MAX_DEPTH: usize = 80;

/// Binds the expressions at one place.
pub(super) struct Binder<'a> {
    /// What the program declares.
    pub program: &'a Declarations<'a>,
    /// The row in sight; `None` for constants.
    pub row: Option<&'a Row>,
    /// Parameters and local variables, innermost last.
    pub locals: Vec<(String, Value)>,
    /// Functions and variables being put in place, to find circles.
    pub open: Vec<&'a str>,
    /// How many lambda parameters have been made: each gets its own name.
    pub lambda_parameters: usize,
    /// Inside a function, where the program's variables go before the row's fields.
    pub in_function: bool,
    /// Calls of aggregates, by their place, as columns of the row.
    pub results: BTreeMap<(usize, usize), Value>,
    depth: usize,
    empty: DFSchema,
}

impl<'a> Binder<'a> {
    /// A binder without local variables.
    pub(super) fn new(program: &'a Declarations<'a>, row: Option<&'a Row>) -> Binder<'a> {
        Binder {
            program,
            row,
            locals: Vec::new(),
            open: Vec::new(),
            lambda_parameters: 0,
            in_function: false,
            results: BTreeMap::new(),
            depth: 0,
            empty: DFSchema::empty(),
        }
    }

    /// Schema that the expression's columns refer to.
    pub(super) fn schema(&self) -> &DFSchema {
        self.row.map_or(&self.empty, |r| r.schema.as_ref())
    }

    /// `expr` of exactly the Arrow type that `ty` has.
    pub(super) fn typed(&self, expr: PlanExpr, ty: ColumnType, parts: &[&Value]) -> Value {
        Value::new(exactly(expr, &ty, self.schema()), ty, parts)
    }

    /// Binds a condition.
    pub(super) fn condition(&mut self, expr: &'a Expr, what: &str) -> Result<Value> {
        let value = self.bind(expr)?;
        coerce(value, &ColumnType::Boolean, expr.span, what)
    }

    /// Binds any expression.
    pub(super) fn bind(&mut self, expr: &'a Expr) -> Result<Value> {
        if self.depth >= MAX_DEPTH {
            return Err(error(
                SqlState::STATEMENT_TOO_COMPLEX,
                codes::NESTING,
                expr.span,
                format!("the expression is nested more than {MAX_DEPTH} levels deep"),
            ));
        }
        self.depth += 1;
        let bound = self.bind_kind(expr).and_then(|v| v.bounded(expr.span));
        self.depth -= 1;
        bound
    }

    fn bind_kind(&mut self, expr: &'a Expr) -> Result<Value> {
        let span = expr.span;
        if let Some(result) = self.results.get(&(span.start, span.end)) {
            return Ok(result.clone());
        }
        Ok(match &expr.kind {
            ExprKind::Null => Value::null(),
            ExprKind::Bool(b) => Value::leaf(lit(*b), ColumnType::Boolean),
            ExprKind::Int(i) => Value::leaf(lit(*i), ColumnType::BigInt),
            ExprKind::Float(f) => Value::leaf(lit(*f), ColumnType::Double),
            ExprKind::Str(s) => Value::leaf(text(s), ColumnType::Text),
            ExprKind::Duration(ns) => Value::leaf(duration(*ns), ColumnType::Interval),
            ExprKind::Timestamp(us) => timestamp(*us),
            ExprKind::Name(name) => self.name(&Ident { name: name.clone(), span })?,
            ExprKind::Array(items) => self.array(items)?,
            ExprKind::Map(entries) => self.map(entries, span)?,
            ExprKind::Field { base, name, .. } => self.field(base, name, span)?,
            ExprKind::Index { base, index } => self.index(base, index)?,
            ExprKind::Slice { base, from, to } => {
                self.slice(base, from.as_deref(), to.as_deref())?
            }
            ExprKind::Call { function, args } => call(self, function, None, args, span)?,
            ExprKind::Method { base, name, args, .. } => call(self, name, Some(base), args, span)?,
            ExprKind::Filter { call, .. } => {
                return Err(arguments(
                    call.span,
                    "`filter (where ..)` belongs to an aggregate in `.aggregate(..)`",
                ));
            }
            ExprKind::Unary { op, operand } => self.unary(*op, operand)?,
            ExprKind::Binary { .. } => self.binary_chain(expr)?,
            ExprKind::IsNull { operand, negated } => self.is_null(operand, *negated)?,
            ExprKind::In { operand, container, negated } => {
                let found = self.contains(operand, container, span)?;
                if *negated { not(found) } else { found }
            }
            ExprKind::Range { from, to, inclusive } => self.range(from, to, *inclusive, span)?,
            ExprKind::If { condition, then, otherwise } => {
                self.choice(condition, then, otherwise)?
            }
            ExprKind::Match { subject, arms } => self.match_arms(subject, arms, span)?,
            ExprKind::Lambda { .. } => {
                return Err(hint(
                    arguments(span, "a lambda can only be an argument of an array function"),
                    "such as `map(xs, x => x * 2)`",
                ));
            }
        })
    }

    fn is_null(&mut self, operand: &'a Expr, negated: bool) -> Result<Value> {
        let value = self.bind(operand)?;
        let inner = value.expr.clone();
        let test = if negated { inner.is_not_null() } else { inner.is_null() };
        Ok(Value::new(test, ColumnType::Boolean, &[&value]))
    }

    fn range(
        &mut self,
        from: &'a Expr,
        to: &'a Expr,
        inclusive: bool,
        span: Span,
    ) -> Result<Value> {
        // `..` binds least of all, so `x in 0..9` arrives as `(x in 0)..9`, which has no meaning
        // of its own.
        if let ExprKind::In { operand, container, negated } = &from.kind {
            let item = self.bind(operand)?;
            let range = (container.as_ref(), to, inclusive);
            let found = self.in_range((item, operand.span), range, span)?;
            return Ok(if *negated { not(found) } else { found });
        }
        let (from, to) = (self.int(from, "a range")?, self.int(to, "a range")?);
        let end = if inclusive { to.expr.clone() + lit(1i64) } else { to.expr.clone() };
        let range = our("int_range", vec![from.expr.clone(), end]);
        let ints = ColumnType::Array(Box::new(ColumnType::BigInt));
        Ok(Value::new(range, ints, &[&from, &to]))
    }

    fn choice(
        &mut self,
        condition: &'a Expr,
        then: &'a Expr,
        otherwise: &'a Expr,
    ) -> Result<Value> {
        let test = self.condition(condition, "the condition of `if`")?;
        let (a, b) = (self.bind(then)?, self.bind(otherwise)?);
        let branches = vec![(a, then.span), (b, otherwise.span)];
        self.case(vec![test], branches, "the branches of `if`")
    }

    /// An integer operand.
    pub(super) fn int(&mut self, expr: &'a Expr, what: &str) -> Result<Value> {
        let value = self.bind(expr)?;
        coerce(value, &ColumnType::BigInt, expr.span, what)
    }

    /// A name: local variable, field of the row, variable of the program.
    fn name(&mut self, name: &Ident) -> Result<Value> {
        let word = name.name.as_str();
        if let Some((_, value)) = self.locals.iter().rev().find(|(n, _)| n == word) {
            return Ok(value.clone());
        }
        let in_row = self.row.and_then(|r| r.field(word));
        let in_program = self.program.variables.contains_key(word);
        if let Some(field) = in_row
            && !(in_program && self.in_function)
        {
            self.one_owner(name)?;
            return Ok(Value::leaf(PlanExpr::Column(field.column.clone()), field.ty.clone()));
        }
        if in_program {
            return self.variable(name);
        }
        if let Some(row) = self.row {
            if SYSTEM_COLUMNS.contains(&word) {
                if let Some(side) = row.sides.first() {
                    return Err(hint(
                        error(
                            SqlState::AMBIGUOUS_COLUMN,
                            codes::AMBIGUOUS_NAME,
                            name.span,
                            format!("each side of the join has a `{word}`"),
                        ),
                        format!("write `{side}.{word}`"),
                    ));
                }
                row.system_wanted.set(true);
                let ty =
                    if word == "_offset" { ColumnType::BigInt } else { ColumnType::Timestamptz };
                return convert_null(&ty);
            }
            if row.aliases.iter().chain(&row.sides).any(|a| a == word) {
                return Err(hint(
                    mismatch(name.span, format!("`{word}` is a whole row, not a value")),
                    format!("name one of its fields: `{word}.field`"),
                ));
            }
        }
        Err(self.unknown_name(name))
    }

    /// Several sides of a join may have a field of a name: then it must be said which is meant.
    fn one_owner(&self, name: &Ident) -> Result<()> {
        let owners = self.row.map(|r| r.owners(&name.name)).unwrap_or_default();
        let Some(first) = owners.first() else { return Ok(()) };
        let all = owners.iter().map(|o| format!("`{o}`")).collect::<Vec<_>>().join(" and ");
        Err(hint(
            error(
                SqlState::AMBIGUOUS_COLUMN,
                codes::AMBIGUOUS_NAME,
                name.span,
                format!("{all} have a field `{}`", name.name),
            ),
            format!("write `{first}.{}`", name.name),
        ))
    }

    /// `side.name` of a join.
    fn field_of_side(&mut self, row: &Row, side: &str, name: &Ident) -> Result<Value> {
        if let Some(field) = row.field_of(side, &name.name) {
            let column = PlanExpr::Column(field.column.clone());
            return Ok(Value::leaf(column, field.ty.clone()));
        }
        if SYSTEM_COLUMNS.contains(&name.name.as_str()) {
            row.system_wanted.set(true);
            let offset = name.name == "_offset";
            let ty = if offset { ColumnType::BigInt } else { ColumnType::Timestamptz };
            return convert_null(&ty);
        }
        let names = row.fields.iter().filter(|f| f.side() == Some(side)).map(|f| f.name.as_str());
        let (state, code) = (SqlState::UNDEFINED_COLUMN, codes::UNKNOWN_FIELD);
        Err(missing(state, code, &format!("`{side}`"), "field", name, names))
    }

    fn unknown_name(&self, name: &Ident) -> Box<auspex_plan::Diagnostic> {
        let locals = self.locals.iter().map(|(n, _)| n.as_str());
        let fields = self.row.into_iter().flat_map(|r| r.names());
        let known = locals.chain(fields).chain(self.program.variables.keys().copied());
        let (state, code) = (SqlState::UNDEFINED_COLUMN, codes::UNKNOWN_FIELD);
        let diagnostic = unknown(state, code, "field or variable", name, known);
        if self.program.functions.contains_key(name.name.as_str()) {
            return hint(
                diagnostic,
                format!("`{0}` is a function: call it with `{0}(..)`", name.name),
            );
        }
        match self.row {
            Some(row) if !row.fields.is_empty() => {
                let names: Vec<&str> = row.names().collect();
                hint(diagnostic, format!("the fields here are: {}", names.join(", ")))
            }
            _ => diagnostic,
        }
    }

    /// A variable of the program: its value in place of its name.
    fn variable(&mut self, name: &Ident) -> Result<Value> {
        let Some((&key, binding)) = self.program.variables.get_key_value(name.name.as_str()) else {
            return Err(self.unknown_name(name));
        };
        if self.open.contains(&key) {
            return Err(error(
                SqlState::INVALID_OBJECT_DEFINITION,
                codes::RECURSION,
                name.span,
                format!("`{key}` is defined by itself"),
            ));
        }
        let mut constants = Binder::new(self.program, None);
        constants.open.clone_from(&self.open);
        constants.open.push(key);
        constants.depth = self.depth;
        let value = constants.bind(&binding.value)?;
        match &binding.ty {
            None => Ok(value),
            Some(ty) => {
                let to = self.program.column_type(ty)?;
                coerce(value, &to, binding.value.span, &format!("`{key}`"))
            }
        }
    }

    fn field(&mut self, base: &'a Expr, name: &Ident, span: Span) -> Result<Value> {
        if let (ExprKind::Name(alias), Some(row)) = (&base.kind, self.row) {
            let local = self.locals.iter().any(|(n, _)| n == alias);
            if !local && row.sides.contains(alias) {
                return self.field_of_side(row, alias, name);
            }
            let is_row = !local && row.aliases.iter().any(|a| a == alias);
            // A field of the row that is called like its alias goes first only as a map.
            let is_map = row.field(alias).is_some_and(|f| matches!(f.ty, ColumnType::Map(..)));
            if is_row && !is_map {
                if let Some(field) = row.field(&name.name) {
                    let column = PlanExpr::Column(field.column.clone());
                    return Ok(Value::leaf(column, field.ty.clone()));
                }
                if SYSTEM_COLUMNS.contains(&name.name.as_str()) {
                    return self.name(name);
                }
                return Err(missing(
                    SqlState::UNDEFINED_COLUMN,
                    codes::UNKNOWN_FIELD,
                    &format!("`{alias}`"),
                    "field",
                    name,
                    row.names(),
                ));
            }
            let known = local
                || row.field(alias).is_some()
                || self.program.variables.contains_key(alias.as_str());
            if !known && !SYSTEM_COLUMNS.contains(&alias.as_str()) {
                let aliases = row.aliases.iter().chain(&row.sides).map(String::as_str);
                let known = aliases.chain(row.names());
                let ident = Ident { name: alias.clone(), span: base.span };
                let (state, code) = (SqlState::UNDEFINED_TABLE, codes::UNKNOWN_FIELD);
                return Err(unknown(state, code, "alias or field", &ident, known));
            }
        }
        let map = self.bind(base)?;
        match &map.ty {
            Some(ColumnType::Map(key, value)) if is_text(key) => {
                let value = value.as_ref().clone();
                let args = vec![map.expr.clone(), text(&name.name)];
                Ok(Value::new(our("map_get", args), value, &[&map]))
            }
            _ => Err(mismatch(
                span,
                format!("`{}` has no fields: only rows and maps have", map.type_name()),
            )),
        }
    }

    fn unary(&mut self, op: UnaryOp, operand: &'a Expr) -> Result<Value> {
        // `-9223372036854775808` reads as the negation of a number, which is folded at once.
        let value = self.bind(operand)?;
        match op {
            UnaryOp::Not => {
                let value =
                    coerce(value, &ColumnType::Boolean, operand.span, "the operand of `not`")?;
                Ok(Value::new(
                    PlanExpr::Not(Box::new(value.expr.clone())),
                    ColumnType::Boolean,
                    &[&value],
                ))
            }
            UnaryOp::BitNot => {
                let value = coerce(value, &ColumnType::BigInt, operand.span, "the operand of `~`")?;
                let flipped = fold_binary(
                    value.expr.clone(),
                    datafusion::logical_expr::Operator::BitwiseXor,
                    lit(-1i64),
                );
                Ok(Value::new(flipped, ColumnType::BigInt, &[&value]))
            }
            UnaryOp::Neg => negate(value, operand.span),
        }
    }

    /// A chain of binary operators: down the left side by a loop, so that a long sum is not deep.
    fn binary_chain(&mut self, expr: &'a Expr) -> Result<Value> {
        let mut spine = Vec::new();
        let mut leftmost = expr;
        while let ExprKind::Binary { op, left, right } = &leftmost.kind {
            spine.push((*op, left.span, right.as_ref(), leftmost.span));
            leftmost = left;
        }
        let mut value = self.bind(leftmost)?;
        for (op, left_span, right, span) in spine.into_iter().rev() {
            let right_value = self.bind(right)?;
            value = match op {
                BinaryOp::Coalesce => {
                    let both = vec![(value, left_span), (right_value, right.span)];
                    self.coalesce(both, "the sides of `??`")?
                }
                _ => binary(op, (value, left_span), (right_value, right.span), span)?,
            }
            .bounded(span)?;
        }
        Ok(value)
    }

    /// The first of `values` that is not null: `CASE WHEN a IS NOT NULL THEN a .. ELSE z END`, which
    /// is also what DataFusion makes of SQL's COALESCE.
    pub(super) fn coalesce(&mut self, values: Vec<(Value, Span)>, what: &str) -> Result<Value> {
        let ty = common_of(&values, what)?;
        let values = convert_all(values, &ty, what)?;
        let Some((last, before)) = values.split_last() else { return Ok(Value::null()) };
        if before.is_empty() {
            return Ok(last.clone());
        }
        let extent = Extent::over(before.iter().chain(&values));
        let branches = before
            .iter()
            .map(|v| (Box::new(v.expr.clone().is_not_null()), Box::new(v.expr.clone())))
            .collect();
        let expr = PlanExpr::Case(Case::new(None, branches, Some(Box::new(last.expr.clone()))));
        Ok(Value { expr, ty: Some(ty), extent })
    }

    /// Whether `item` lies in the range of the first two, with the end when the last says so.
    pub(super) fn in_range(
        &mut self,
        item: (Value, Span),
        (from, to, inclusive): (&'a Expr, &'a Expr, bool),
        span: Span,
    ) -> Result<Value> {
        let below = if inclusive { BinaryOp::LtEq } else { BinaryOp::Lt };
        let (low, high) = ((self.bind(from)?, from.span), (self.bind(to)?, to.span));
        let low = compare(BinaryOp::GtEq, item.clone(), low, span)?;
        let high = compare(below, item, high, span)?;
        let within = low.expr.clone().and(high.expr.clone());
        Ok(Value::new(within, ColumnType::Boolean, &[&low, &high]))
    }

    /// CASE over `conditions`; `values` has one more for the rest.
    pub(super) fn case(
        &mut self,
        conditions: Vec<Value>,
        values: Vec<(Value, Span)>,
        what: &str,
    ) -> Result<Value> {
        let ty = common_of(&values, what)?;
        let mut values = convert_all(values, &ty, what)?;
        let extent = Extent::over(conditions.iter().chain(&values));
        let otherwise = values.pop().map(|v| Box::new(v.expr));
        let branches = conditions
            .into_iter()
            .zip(values)
            .map(|(c, v)| (Box::new(c.expr), Box::new(v.expr)))
            .collect();
        let expr = PlanExpr::Case(Case::new(None, branches, otherwise));
        Ok(Value { expr, ty: Some(ty), extent })
    }
}

/// A moment, in microseconds since 1970.
fn timestamp(microseconds: i64) -> Value {
    let zone = Some(auspex_plan::types::UTC.into());
    let value = ScalarValue::TimestampMicrosecond(Some(microseconds), zone);
    Value::leaf(lit(value), ColumnType::Timestamptz)
}

/// `not value`
fn not(value: Value) -> Value {
    Value { expr: PlanExpr::Not(Box::new(value.expr)), ..value }
}

/// Null of a type.
fn convert_null(ty: &ColumnType) -> Result<Value> {
    Ok(convert(Value::null(), ty).unwrap_or_else(Value::null))
}

/// All values as a `ty`.
pub(super) fn convert_all(
    values: Vec<(Value, Span)>,
    ty: &ColumnType,
    what: &str,
) -> Result<Vec<Value>> {
    values.into_iter().map(|(value, span)| coerce(value, ty, span, what)).collect()
}
