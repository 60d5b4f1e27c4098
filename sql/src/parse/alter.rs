//! `DROP ..` and `ALTER ..`.

use auspex_plan::Diagnostic;

use super::reader::Reader;
use super::{Result, options};
use crate::statement::{Alter, AlterAction, DropStatement, RelationKind, StatementKind};

fn kind(r: &mut Reader) -> Option<RelationKind> {
    if r.words(&["materialized", "view"]) {
        return Some(RelationKind::View);
    }
    let kind = match r.peek_word(0)?.as_str() {
        "stream" => RelationKind::Stream,
        "table" => RelationKind::Table,
        "pipeline" => RelationKind::Pipeline,
        "sink" => RelationKind::Sink,
        _ => return None,
    };
    r.advance();
    Some(kind)
}

/// Words that may stand behind `DROP` or `ALTER` in PostgreSQL or in the design.
const OTHER_KINDS: [&str; 24] = [
    "view",
    "connector",
    "source",
    "trigger",
    "function",
    "procedure",
    "aggregate",
    "secret",
    "subscription",
    "publication",
    "role",
    "user",
    "group",
    "database",
    "schema",
    "sequence",
    "index",
    "extension",
    "type",
    "domain",
    "rule",
    "owned",
    "system",
    "default",
];

fn other(r: &Reader, verb: &str) -> Diagnostic {
    match r.peek_word(0) {
        Some(word) if OTHER_KINDS.contains(&word.as_str()) => {
            let word = word.to_ascii_uppercase();
            Diagnostic::unsupported(format!("{verb} {word} is not supported")).at(r.here())
        }
        _ => r.unexpected(),
    }
}

pub(super) fn drop(r: &mut Reader) -> Result<StatementKind> {
    r.advance();
    let Some(kind) = kind(r) else { return Err(other(r, "DROP")) };
    let if_exists = r.words(&["if", "exists"]);
    let names = r.list(Reader::name)?;
    let cascade = r.word("cascade");
    if !cascade {
        r.word("restrict");
    }
    Ok(StatementKind::Drop(DropStatement { kind, if_exists, names, cascade }))
}

pub(super) fn alter(r: &mut Reader) -> Result<StatementKind> {
    r.advance();
    let Some(kind) = kind(r) else { return Err(other(r, "ALTER")) };
    let if_exists = r.words(&["if", "exists"]);
    if kind == RelationKind::Table {
        r.word("only");
    }
    let name = r.name()?;
    let place = r.here();
    let action = if r.words(&["rename", "to"]) {
        AlterAction::Rename(r.ident()?)
    } else if kind == RelationKind::Stream && r.at(&["set"]) {
        r.advance();
        AlterAction::Set(options::list(r)?)
    } else if kind != RelationKind::Table && r.word("pause") {
        AlterAction::Pause
    } else if kind != RelationKind::Table && r.word("resume") {
        AlterAction::Resume
    } else if let Some(word) = r.peek_word(0).filter(|w| {
        [
            "rename", "add", "drop", "alter", "set", "reset", "owner", "enable", "disable",
            "pause", "resume", "cluster", "validate", "inherit", "attach", "detach", "replica",
        ]
        .contains(&w.as_str())
    }) {
        return Err(Diagnostic::unsupported(format!(
            "ALTER {} .. {} is not supported",
            kind.name().to_ascii_uppercase(),
            word.to_ascii_uppercase()
        ))
        .at(place));
    } else {
        return Err(r.unexpected());
    };
    Ok(StatementKind::Alter(Alter { kind, if_exists, name, action }))
}
