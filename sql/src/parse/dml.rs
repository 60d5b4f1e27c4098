//! `INSERT`, `UPDATE`, `DELETE`, `TRUNCATE`.

use auspex_plan::Diagnostic;
use sqlparser::tokenizer::Token;

use super::Result;
use super::reader::Reader;
use crate::statement::{
    AssignedValue, Assignment, ConflictAction, Delete, Insert, InsertSource, OnConflict,
    StatementKind, Truncate, Update,
};

pub(super) fn insert(r: &mut Reader) -> Result<Insert> {
    r.advance();
    r.expect("into")?;
    let table = r.name()?;
    let alias = if r.word("as") { Some(r.ident()?) } else { None };
    let columns = match (r.peek_token(), r.peek_word(1).as_deref()) {
        (Token::LParen, Some("select" | "values" | "with" | "table")) => Vec::new(),
        (Token::LParen, _) if r.peek_nth(1) != &Token::LParen => r.parenthesised(Reader::ident)?,
        _ => Vec::new(),
    };
    if r.at(&["overriding"]) {
        return Err(Diagnostic::unsupported("OVERRIDING is not supported").at(r.here()));
    }
    let rows = if r.words(&["default", "values"]) {
        InsertSource::Defaults
    } else {
        InsertSource::Query(r.query()?)
    };
    let on_conflict = if r.at(&["on", "conflict"]) { Some(on_conflict(r)?) } else { None };
    let returning = r.returning()?;
    let source = r.source().clone();
    Ok(Insert { table, alias, columns, rows, on_conflict, returning, source })
}

fn on_conflict(r: &mut Reader) -> Result<OnConflict> {
    let start = r.position();
    r.words(&["on", "conflict"]);
    let span = r.since(start);
    if r.at(&["on", "constraint"]) {
        return Err(Diagnostic::unsupported("ON CONFLICT ON CONSTRAINT is not supported")
            .hint("Name the columns of the primary key: ON CONFLICT (id).")
            .at(r.here()));
    }
    let columns = match r.peek_token() {
        Token::LParen => r.parenthesised(Reader::ident)?,
        _ => Vec::new(),
    };
    if r.at(&["where"]) {
        return Err(Diagnostic::unsupported("partial indexes are not supported").at(r.here()));
    }
    r.expect("do")?;
    let action = if r.word("nothing") {
        ConflictAction::Nothing
    } else {
        r.expect("update")?;
        r.expect("set")?;
        let assignments = assignments(r)?;
        let condition = if r.word("where") { Some(r.expr()?) } else { None };
        if columns.is_empty() {
            return Err(Diagnostic::syntax(
                "ON CONFLICT DO UPDATE requires inference specification or constraint name",
            )
            .hint("For example, ON CONFLICT (column_name).")
            .at(span));
        }
        ConflictAction::Update { assignments, condition }
    };
    Ok(OnConflict { columns, action, span })
}

/// `a = 1, (b, c) = (2, DEFAULT)`.
fn assignments(r: &mut Reader) -> Result<Vec<Assignment>> {
    Ok(r.list(assignment)?.into_iter().flatten().collect())
}

fn assignment(r: &mut Reader) -> Result<Vec<Assignment>> {
    if r.peek_token() != &Token::LParen {
        let column = r.ident()?;
        if matches!(r.peek_token(), Token::Period | Token::LBracket) {
            return Err(Diagnostic::unsupported(
                "assigning to a part of a column is not supported",
            )
            .at(r.here()));
        }
        r.expect_symbol(&Token::Eq)?;
        return Ok(vec![Assignment { column, value: value(r)? }]);
    }
    let start = r.position();
    let columns = r.parenthesised(Reader::ident)?;
    r.expect_symbol(&Token::Eq)?;
    r.word("row");
    if let (Token::LParen, Some("select" | "with" | "values")) =
        (r.peek_token(), r.peek_word(1).as_deref())
    {
        return Err(Diagnostic::unsupported("assigning the columns of a query is not supported")
            .at(r.here()));
    }
    let values = r.parenthesised(value)?;
    if columns.len() != values.len() {
        return Err(Diagnostic::syntax("number of columns does not match number of values")
            .at(r.since(start)));
    }
    Ok(columns
        .into_iter()
        .zip(values)
        .map(|(column, value)| Assignment { column, value })
        .collect())
}

fn value(r: &mut Reader) -> Result<AssignedValue> {
    if r.word("default") {
        return Ok(AssignedValue::Default);
    }
    Ok(AssignedValue::Expr(r.expr()?))
}

pub(super) fn update(r: &mut Reader) -> Result<Update> {
    r.advance();
    r.word("only");
    let table = r.name()?;
    let alias = r.alias(&["set"])?;
    r.expect("set")?;
    let assignments = assignments(r)?;
    if r.at(&["from"]) {
        return Err(Diagnostic::unsupported("UPDATE .. FROM is not supported")
            .hint("Use a subquery in SET or WHERE.")
            .at(r.here()));
    }
    let condition = condition(r)?;
    let returning = r.returning()?;
    Ok(Update { table, alias, assignments, condition, returning, source: r.source().clone() })
}

pub(super) fn delete(r: &mut Reader) -> Result<Delete> {
    r.advance();
    r.expect("from")?;
    r.word("only");
    let table = r.name()?;
    let alias = r.alias(&["where", "using", "returning"])?;
    if r.at(&["using"]) {
        return Err(Diagnostic::unsupported("DELETE .. USING is not supported")
            .hint("Use a subquery in WHERE.")
            .at(r.here()));
    }
    let condition = condition(r)?;
    let returning = r.returning()?;
    Ok(Delete { table, alias, condition, returning, source: r.source().clone() })
}

fn condition(r: &mut Reader) -> Result<Option<crate::statement::Expr>> {
    if !r.word("where") {
        return Ok(None);
    }
    if r.at(&["current", "of"]) {
        return Err(Diagnostic::unsupported("WHERE CURRENT OF is not supported").at(r.here()));
    }
    r.expr().map(Some)
}

pub(super) fn truncate(r: &mut Reader) -> Result<StatementKind> {
    r.advance();
    r.word("table");
    r.word("only");
    let names = r.list(Reader::name)?;
    // Tables have no sequences: nothing to restart or to continue.
    if !r.words(&["restart", "identity"]) {
        r.words(&["continue", "identity"]);
    }
    let cascade = r.word("cascade");
    if !cascade {
        r.word("restrict");
    }
    Ok(StatementKind::Truncate(Truncate { names, cascade }))
}
