//! The beginning of a connection: TLS and GSS probes, cancel requests, the startup packet.

use auspex_plan::{Diagnostic, SqlState};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::decode::utf8;
use super::wire::{Input, ReadError};

/// Largest packet before the connection is established, as in PostgreSQL.
const MAX_PACKET: usize = 10_000;
/// Probes (TLS, GSS) answered on one connection.
const MAX_PROBES: usize = 4;

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

/// Protocol 3 as the upper half of a version number.
const MAJOR: u32 = 3;
/// Newest minor version spoken.
const NEWEST_MINOR: u32 = 2;

/// What a connection turned out to want.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// A session.
    Session(Startup),
    /// To cancel a statement of another session. There is no answer.
    Cancel { pid: i32, secret: Bytes },
    /// Nothing this server speaks, or nothing at all: the connection is closed without a word.
    Close,
}

/// A startup packet.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Startup {
    /// Minor version that will be spoken.
    pub(super) minor: u32,
    /// Whether the client asked for something else and has to be told.
    pub(super) negotiate: bool,
    /// Protocol options (`_pq_.`) that are not known here.
    pub(super) unknown_options: Vec<String>,
    pub(super) user: String,
    pub(super) database: String,
    /// Settings, in order.
    pub(super) settings: Vec<(String, String)>,
}

/// Reads up to the startup packet. Errors are FATAL ones for the client.
pub(super) async fn open<R, W>(input: &mut Input<R>, writer: &mut W) -> Result<Opening, Diagnostic>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    for _ in 0..=MAX_PROBES {
        let Ok(length) = input.peek::<4>().await else { return Ok(Opening::Close) };
        let length = u32::from_be_bytes(length) as usize;
        // A TLS handshake without SSLRequest, an HTTP request and the like end here.
        if !(8..=MAX_PACKET).contains(&length) {
            return Ok(Opening::Close);
        }
        let packet = match input.take(length).await {
            Ok(packet) => packet,
            Err(ReadError::Gone) => return Ok(Opening::Close),
            Err(ReadError::Fatal(error)) => return Err(error),
        };
        let code = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
        match code {
            SSL_REQUEST | GSSENC_REQUEST => {
                let answered = async {
                    writer.write_all(b"N").await?;
                    writer.flush().await
                };
                if answered.await.is_err() {
                    return Ok(Opening::Close);
                }
            }
            CANCEL_REQUEST => {
                if packet.len() < 16 || packet.len() > 12 + 256 {
                    return Ok(Opening::Close);
                }
                let pid = i32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
                return Ok(Opening::Cancel { pid, secret: packet.slice(12..) });
            }
            version => return startup(version, &packet[8..]).map(Opening::Session),
        }
    }
    Ok(Opening::Close)
}

fn violation(message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(SqlState::PROTOCOL_VIOLATION, message)
}

fn startup(version: u32, body: &[u8]) -> Result<Startup, Diagnostic> {
    let (major, minor) = (version >> 16, version & 0xffff);
    if major != MAJOR {
        return Err(Diagnostic::unsupported(format!(
            "unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{NEWEST_MINOR}"
        )));
    }
    let mut startup = Startup {
        // There is no 3.1: who asks for it gets 3.0.
        minor: match minor {
            0 | 1 => 0,
            _ => NEWEST_MINOR,
        },
        ..Startup::default()
    };
    let layout = "invalid startup packet layout: expected terminator as last byte";
    let mut rest = body;
    let mut string = || -> Result<String, Diagnostic> {
        let end = memchr::memchr(0, rest).ok_or_else(|| violation(layout))?;
        let text = utf8(&rest[..end])?.to_string();
        rest = &rest[end + 1..];
        Ok(text)
    };
    loop {
        let name = string()?;
        if name.is_empty() {
            break;
        }
        let value = string()?;
        match name.as_str() {
            "user" => startup.user = value,
            "database" => startup.database = value,
            "replication" => {
                if !["false", "off", "no", "0"].contains(&value.as_str()) {
                    return Err(Diagnostic::unsupported(
                        "the replication protocol is not supported",
                    ));
                }
            }
            "options" => startup.settings.extend(options(&value)?),
            _ if name.starts_with("_pq_.") => startup.unknown_options.push(name),
            _ => startup.settings.push((name, value)),
        }
    }
    if !rest.is_empty() {
        return Err(violation(layout));
    }
    if startup.user.is_empty() {
        return Err(Diagnostic::error(
            SqlState("28000"),
            "no PostgreSQL user name specified in startup packet",
        ));
    }
    if startup.database.is_empty() {
        startup.database.clone_from(&startup.user);
    }
    startup.negotiate = minor != startup.minor || !startup.unknown_options.is_empty();
    Ok(startup)
}

/// The settings of an `options` parameter: `-c name=value`, `-cname=value`, `--name=value`, with
/// spaces and backslashes escaped by a backslash.
fn options(text: &str) -> Result<Vec<(String, String)>, Diagnostic> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let assignment = if let Some(long) = word.strip_prefix("--") {
            Some(long.to_string())
        } else if word == "-c" {
            words.next()
        } else {
            word.strip_prefix("-c").map(str::to_string)
        };
        let (name, value) = assignment
            .as_deref()
            .and_then(|assignment| assignment.split_once('='))
            .ok_or_else(|| {
                Diagnostic::error(
                    SqlState::SYNTAX_ERROR,
                    format!("invalid command-line argument for server process: {word}"),
                )
                .hint("Only settings are accepted: -c name=value.")
            })?;
        settings.push((name.replace('-', "_"), value.to_string()));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let mut packet = ((body.len() + 8) as u32).to_be_bytes().to_vec();
        packet.extend(code.to_be_bytes());
        packet.extend(body);
        packet
    }

    async fn opening(bytes: &[u8]) -> (Result<Opening, Diagnostic>, Vec<u8>) {
        let mut answer = Vec::new();
        let opening = open(&mut Input::new(bytes, 1 << 20), &mut answer).await;
        (opening, answer)
    }

    #[tokio::test]
    async fn probes_are_refused_and_the_session_goes_on() {
        let mut bytes = packet(GSSENC_REQUEST, b"");
        bytes.extend(packet(SSL_REQUEST, b""));
        bytes.extend(packet(
            196_608,
            b"user\0ada\0application_name\0x\0options\0-c a=b --c-d=e\\ f\0\0",
        ));
        let (opening, answer) = opening(&bytes).await;
        assert_eq!(answer, b"NN");
        let Ok(Opening::Session(startup)) = opening else { panic!("{opening:?}") };
        assert_eq!((startup.user.as_str(), startup.database.as_str()), ("ada", "ada"));
        assert!(!startup.negotiate);
        let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
        assert_eq!(
            startup.settings,
            [pair("application_name", "x"), pair("a", "b"), pair("c_d", "e f")]
        );
    }

    #[tokio::test]
    async fn newer_versions_and_unknown_options_are_negotiated() {
        for (version, minor, negotiate) in
            [(196_608, 0, false), (196_609, 0, true), (196_610, 2, false), (206_607, 2, true)]
        {
            let (opening, _) = opening(&packet(version, b"user\0u\0\0")).await;
            let Ok(Opening::Session(startup)) = opening else { panic!("{opening:?}") };
            assert_eq!((startup.minor, startup.negotiate), (minor, negotiate), "{version}");
        }
        let (opening, _) = opening(&packet(196_608, b"user\0u\0_pq_.x\x001\0\0")).await;
        let Ok(Opening::Session(startup)) = opening else { panic!("{opening:?}") };
        assert!(startup.negotiate);
        assert_eq!(startup.unknown_options, ["_pq_.x"]);
    }

    #[tokio::test]
    async fn what_is_no_startup_packet_is_refused() {
        let close = [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            vec![0x16, 3, 1, 2, 0, 1, 0, 1],
            vec![0, 0, 0, 4, 0, 0],
            9_999_999u32.to_be_bytes().to_vec(),
            packet(CANCEL_REQUEST, b"1234"),
            Vec::new(),
        ];
        for bytes in close {
            assert_eq!(opening(&bytes).await.0, Ok(Opening::Close), "{bytes:?}");
        }
        for (version, body, state) in [
            (131_072, &b"user\0u\0\0"[..], "0A000"),
            (196_608, b"user\0u\0", "08P01"),
            (196_608, b"user\0u\0\0junk", "08P01"),
            (196_608, b"database\0d\0\0", "28000"),
            (196_608, b"user\0u\0replication\0true\0\0", "0A000"),
            (196_608, b"user\0u\0options\0-z\0\0", "42601"),
        ] {
            let error = opening(&packet(version, body)).await.0.unwrap_err();
            assert_eq!(error.state.0, state, "{body:?}");
        }
        let cancel = opening(&packet(CANCEL_REQUEST, b"\0\0\0\x07abcd")).await.0;
        assert_eq!(cancel, Ok(Opening::Cancel { pid: 7, secret: Bytes::from_static(b"abcd") }));
    }

    proptest! {
        #[test]
        fn no_startup_packet_makes_the_server_panic(
            version in any::<u32>(),
            body in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let _ = startup(version, &body);
            let _ = startup(196_608, &body);
        }
    }
}
