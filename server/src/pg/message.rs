//! Messages of the client. Decoding never panics and never reads behind the message's own bytes;
//! what is not a message is an error with SQLSTATE 08P01.

use auspex_plan::{Diagnostic, SqlState};

use super::decode::utf8;

/// A message of the extended protocol or a query.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    Query { text: &'a str },
    Parse { name: &'a str, text: &'a str, types: Vec<u32> },
    Bind(Bind<'a>),
    Describe(Target<'a>),
    Execute { portal: &'a str, max_rows: i32 },
    Close(Target<'a>),
    Flush,
    Sync,
    Terminate,
    CopyDone,
    CopyFail { message: &'a str },
    FunctionCall,
}

/// What Describe and Close are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target<'a> {
    Statement(&'a str),
    Portal(&'a str),
}

/// Parameters for a prepared statement.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bind<'a> {
    pub(super) portal: &'a str,
    pub(super) statement: &'a str,
    pub(super) parameter_formats: Vec<i16>,
    pub(super) parameters: Vec<Option<&'a [u8]>>,
    pub(super) result_formats: Vec<i16>,
}

/// Whether a message type belongs to the extended protocol: after an error, those are skipped up
/// to Sync.
pub(super) fn is_extended(kind: u8) -> bool {
    matches!(kind, b'P' | b'B' | b'D' | b'E' | b'C' | b'H')
}

/// Whether a message of this type exists.
pub(super) fn is_known(kind: u8) -> bool {
    matches!(kind, b'Q' | b'S' | b'X' | b'c' | b'f' | b'F') || is_extended(kind)
}

impl<'a> Message<'a> {
    /// Decodes the body of a message of a type for which [`is_known`] is true.
    pub(super) fn decode(kind: u8, body: &'a [u8]) -> Result<Message<'a>, Diagnostic> {
        let mut body = Body(body);
        let message = match kind {
            b'Q' => Message::Query { text: body.string()? },
            b'P' => {
                let (name, text) = (body.string()?, body.string()?);
                let count = body.count(4)?;
                let types = (0..count).map(|_| body.u32()).collect::<Result<_, _>>()?;
                Message::Parse { name, text, types }
            }
            b'B' => Message::Bind(body.bind()?),
            b'D' => Message::Describe(body.target()?),
            b'E' => Message::Execute { portal: body.string()?, max_rows: body.u32()? as i32 },
            b'C' => Message::Close(body.target()?),
            b'H' => Message::Flush,
            b'S' => Message::Sync,
            b'X' => Message::Terminate,
            b'c' => Message::CopyDone,
            b'f' => Message::CopyFail { message: body.string()? },
            b'F' => return Ok(Message::FunctionCall),
            other => return Err(violation(format!("invalid frontend message type {other}"))),
        };
        if body.0.is_empty() { Ok(message) } else { Err(violation("invalid message format")) }
    }
}

fn violation(message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(SqlState::PROTOCOL_VIOLATION, message)
}

fn short() -> Diagnostic {
    violation("insufficient data left in message")
}

/// What is left of a message.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Diagnostic> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or_else(short)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u32(&mut self) -> Result<u32, Diagnostic> {
        Ok(u32::from_be_bytes(self.bytes()?))
    }

    /// A number of elements of at least `size` bytes each, which must fit into the message.
    fn count(&mut self, size: usize) -> Result<usize, Diagnostic> {
        let count = usize::from(u16::from_be_bytes(self.bytes()?));
        if count * size > self.0.len() { Err(short()) } else { Ok(count) }
    }

    fn string(&mut self) -> Result<&'a str, Diagnostic> {
        let end =
            memchr::memchr(0, self.0).ok_or_else(|| violation("invalid string in message"))?;
        let text = utf8(&self.0[..end])?;
        self.0 = &self.0[end + 1..];
        Ok(text)
    }

    fn formats(&mut self) -> Result<Vec<i16>, Diagnostic> {
        let count = self.count(2)?;
        (0..count)
            .map(|_| match i16::from_be_bytes(self.bytes()?) {
                format @ (0 | 1) => Ok(format),
                other => Err(Diagnostic::error(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("unsupported format code: {other}"),
                )),
            })
            .collect()
    }

    fn target(&mut self) -> Result<Target<'a>, Diagnostic> {
        match self.bytes::<1>()? {
            [b'S'] => Ok(Target::Statement(self.string()?)),
            [b'P'] => Ok(Target::Portal(self.string()?)),
            [other] => Err(violation(format!("invalid message subtype {other}"))),
        }
    }

    fn bind(&mut self) -> Result<Bind<'a>, Diagnostic> {
        let (portal, statement) = (self.string()?, self.string()?);
        let parameter_formats = self.formats()?;
        let count = self.count(4)?;
        let mut parameters = Vec::with_capacity(count);
        for _ in 0..count {
            parameters.push(match self.u32()? {
                u32::MAX => None,
                length => {
                    let (value, rest) =
                        self.0.split_at_checked(length as usize).ok_or_else(short)?;
                    self.0 = rest;
                    Some(value)
                }
            });
        }
        let result_formats = self.formats()?;
        Ok(Bind { portal, statement, parameter_formats, parameters, result_formats })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_are_read_to_their_last_byte() {
        assert_eq!(Message::decode(b'Q', b"select 1\0"), Ok(Message::Query { text: "select 1" }));
        assert_eq!(
            Message::decode(b'P', b"s\0select $1\0\0\x01\0\0\0\x17"),
            Ok(Message::Parse { name: "s", text: "select $1", types: vec![23] })
        );
        assert_eq!(
            Message::decode(
                b'B',
                b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\x01\0\0"
            ),
            Ok(Message::Bind(Bind {
                portal: "p",
                statement: "s",
                parameter_formats: vec![1],
                parameters: vec![Some(b"ab"), None],
                result_formats: vec![0],
            }))
        );
        assert_eq!(
            Message::decode(b'E', b"\0\xff\xff\xff\xff"),
            Ok(Message::Execute { portal: "", max_rows: -1 })
        );
        assert_eq!(Message::decode(b'D', b"Sx\0"), Ok(Message::Describe(Target::Statement("x"))));
    }

    #[test]
    fn malformed_messages_are_protocol_violations() {
        for (kind, body) in [
            (b'Q', &b"select 1"[..]),
            (b'Q', b"select 1\0junk"),
            (b'P', b"\0\0"),
            (b'P', b"\0\0\xff\xff\0\0\0\x17"),
            (b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff"),
            (b'D', b"Zx\0"),
            (b'E', b"\0\0\0"),
            (b'C', b""),
        ] {
            let error = Message::decode(kind, body).unwrap_err();
            assert_eq!(error.state, SqlState::PROTOCOL_VIOLATION, "{body:?}");
        }
        let error = Message::decode(b'Q', b"\xff\0").unwrap_err();
        assert_eq!(error.state, SqlState::CHARACTER_NOT_IN_REPERTOIRE);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(
            kind in any::<u8>(),
            body in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let _ = Message::decode(kind, &body);
        }

        #[test]
        fn no_small_numbers_make_the_decoder_panic(
            kind in proptest::sample::select(b"QPBDECHSXcf".to_vec()),
            body in proptest::collection::vec(0u8..4, 0..64),
        ) {
            let _ = Message::decode(kind, &body);
        }
    }
}
