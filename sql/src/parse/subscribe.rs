//! `SUBSCRIBE ..` and the spellings of Materialize and RisingWave.

use auspex_plan::diagnostic::did_you_mean;
use auspex_plan::{Diagnostic, Span, SqlState};
use sqlparser::tokenizer::Token;

use super::reader::Reader;
use super::{Result, options};
use crate::statement::{Opt, Overflow, Subscribe, SubscribeFrom, SubscribeTarget, SubscribeUntil};

pub(super) fn subscribe(r: &mut Reader) -> Result<Subscribe> {
    let start = r.position();
    r.advance();
    r.word("to");
    let target = if r.peek_token() == &Token::LParen {
        r.expect_symbol(&Token::LParen)?;
        let query = r.query()?;
        r.expect_symbol(&Token::RParen)?;
        SubscribeTarget::Query(query)
    } else {
        SubscribeTarget::Name(r.name()?)
    };
    let mut found = Clauses::default();
    while !r.is_end() && r.peek_token() != &Token::RParen {
        found.clause(r)?;
    }
    Ok(Subscribe {
        target,
        from: found.from.map_or(SubscribeFrom::Now, |(from, _)| from),
        until: found.until.map(|(until, _)| until),
        snapshot: found.snapshot,
        progress_us: found.progress_us,
        metadata: found.metadata.unwrap_or(true),
        on_overflow: found.on_overflow.unwrap_or_default(),
        span: r.since(start),
    })
}

/// `SUBSCRIPTION CURSOR FOR name [SINCE ..]` of RisingWave, from the name on.
pub(super) fn since(r: &mut Reader) -> Result<Subscribe> {
    let start = r.position();
    let target = SubscribeTarget::Name(r.name()?);
    let mut from = SubscribeFrom::Now;
    let mut snapshot = None;
    if r.word("full") {
        from = SubscribeFrom::Beginning;
        snapshot = Some(true);
    } else if r.word("since") {
        let place = r.here();
        from = match options::any_word(r)?.as_str() {
            "now" | "proctime" => SubscribeFrom::Now,
            "begin" => SubscribeFrom::Beginning,
            _ => {
                return Err(Diagnostic::unsupported("this starting point is not supported")
                    .hint("Use now(), begin(), or SUBSCRIBE .. FROM TIMESTAMP.")
                    .at(place));
            }
        };
        r.expect_symbol(&Token::LParen)?;
        r.expect_symbol(&Token::RParen)?;
    }
    Ok(Subscribe {
        target,
        from,
        until: None,
        snapshot,
        progress_us: None,
        metadata: true,
        on_overflow: Overflow::Error,
        span: r.since(start),
    })
}

#[derive(Default)]
struct Clauses {
    from: Option<(SubscribeFrom, Span)>,
    until: Option<(SubscribeUntil, Span)>,
    snapshot: Option<bool>,
    progress_us: Option<i64>,
    metadata: Option<bool>,
    on_overflow: Option<Overflow>,
}

impl Clauses {
    fn clause(&mut self, r: &mut Reader) -> Result<()> {
        let start = r.position();
        if r.word("from") {
            let from = from(r)?;
            return self.set_from(from, r.since(start));
        }
        if r.words(&["after", "offset"]) {
            let from = SubscribeFrom::AfterOffset(r.expr()?);
            // `FROM BEGINNING AFTER OFFSET n` is no contradiction, but says nothing more either.
            return self.set_from(from, r.since(start));
        }
        if r.words(&["as", "of"]) {
            r.words(&["at", "least"]);
            r.word("timestamp");
            let from = SubscribeFrom::Timestamp(r.expr()?);
            return self.set_from(from, r.since(start));
        }
        if r.word("until") {
            let until = if r.word("now") {
                SubscribeUntil::Now
            } else if r.word("offset") {
                SubscribeUntil::Offset(r.expr()?)
            } else {
                r.expect("timestamp")?;
                SubscribeUntil::Timestamp(r.expr()?)
            };
            return self.set_until(until, r.since(start));
        }
        if r.words(&["up", "to"]) {
            r.word("timestamp");
            let until = SubscribeUntil::Timestamp(r.expr()?);
            return self.set_until(until, r.since(start));
        }
        if r.at(&["with"]) && r.peek_nth(1) == &Token::LParen {
            for option in options::with(r)? {
                self.option(&option)?;
            }
            return Ok(());
        }
        for (word, name) in [("envelope", "ENVELOPE"), ("within", "WITHIN TIMESTAMP ORDER BY")] {
            if r.at(&[word]) {
                return Err(
                    Diagnostic::unsupported(format!("{name} is not supported")).at(r.here())
                );
            }
        }
        Err(r.unexpected())
    }

    fn set_from(&mut self, from: SubscribeFrom, at: Span) -> Result<()> {
        match self.from.replace((from, at)) {
            None => Ok(()),
            Some(_) => Err(Diagnostic::syntax("the starting point is given twice").at(at)),
        }
    }

    fn set_until(&mut self, until: SubscribeUntil, at: Span) -> Result<()> {
        match self.until.replace((until, at)) {
            None => Ok(()),
            Some(_) => Err(Diagnostic::syntax("the end is given twice").at(at)),
        }
    }

    fn option(&mut self, option: &Opt) -> Result<()> {
        match option.name.value.as_str() {
            "snapshot" => self.snapshot = Some(boolean(option)?),
            "metadata" => self.metadata = Some(boolean(option)?),
            "progress" => self.progress_us = progress(option)?,
            "on_overflow" => {
                self.on_overflow =
                    Some(match option.text().map(str::to_ascii_lowercase).as_deref() {
                        Some("error") => Overflow::Error,
                        Some("gap") => Overflow::Gap,
                        _ => return Err(wrong(option, "error or gap")),
                    });
            }
            name => {
                let error = Diagnostic::error(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("unrecognized option \"{name}\" of SUBSCRIBE"),
                )
                .at(option.name.span);
                let known = ["snapshot", "progress", "metadata", "on_overflow"];
                return Err(match did_you_mean(name, known) {
                    Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
                    None => error.hint("Options are SNAPSHOT, PROGRESS, METADATA, ON_OVERFLOW."),
                });
            }
        }
        Ok(())
    }
}

/// Behind `FROM`.
fn from(r: &mut Reader) -> Result<SubscribeFrom> {
    if r.word("now") {
        Ok(SubscribeFrom::Now)
    } else if r.word("beginning") {
        Ok(SubscribeFrom::Beginning)
    } else if r.word("offset") {
        Ok(SubscribeFrom::Offset(r.expr()?))
    } else if r.word("timestamp") {
        Ok(SubscribeFrom::Timestamp(r.expr()?))
    } else if r.at(&["subscription"]) || r.at(&["cursor"]) {
        Err(Diagnostic::unsupported("durable subscriptions are not supported")
            .hint("Keep the last offset seen and use AFTER OFFSET.")
            .at(r.here()))
    } else {
        Err(r.unexpected())
    }
}

fn boolean(option: &Opt) -> Result<bool> {
    option.boolean().ok_or_else(|| wrong(option, "a Boolean value"))
}

/// `PROGRESS`, `PROGRESS = false`, `PROGRESS = '1 s'`; alone it means every second.
fn progress(option: &Opt) -> Result<Option<i64>> {
    match option.boolean() {
        Some(true) => Ok(Some(1_000_000)),
        Some(false) => Ok(None),
        None => match option.text() {
            Some(text) => options::duration_us(text, option.span).map(Some),
            None => Err(wrong(option, "an interval")),
        },
    }
}

fn wrong(option: &Opt, wanted: &str) -> Diagnostic {
    Diagnostic::error(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("{} requires {wanted}", option.name.value),
    )
    .at(option.span)
}
