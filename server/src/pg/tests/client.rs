//! A client that writes messages byte by byte and shows answers as lines of text.

use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within;

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: BytesMut,
    pub(crate) pid: i32,
    pub(crate) secret: Vec<u8>,
    /// What the server said at startup.
    pub(crate) greeting: Vec<String>,
}

/// A message: type, length, body.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.put_u32(body.len() as u32 + 4);
    out.extend_from_slice(body);
    out
}

fn z(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

pub(crate) fn query(text: &str) -> Vec<u8> {
    message(b'Q', &z(text))
}

pub(crate) fn parse(name: &str, text: &str, types: &[u32]) -> Vec<u8> {
    let mut body = [z(name), z(text)].concat();
    body.put_u16(types.len() as u16);
    types.iter().for_each(|oid| body.put_u32(*oid));
    message(b'P', &body)
}

/// Text parameters, results in the format given.
pub(crate) fn bind(
    portal: &str,
    statement: &str,
    parameters: &[Option<&str>],
    format: i16,
) -> Vec<u8> {
    let parameters: Vec<Option<&[u8]>> = parameters.iter().map(|p| p.map(str::as_bytes)).collect();
    bind_as(portal, statement, 0, &parameters, format)
}

pub(crate) fn bind_as(
    portal: &str,
    statement: &str,
    parameter_format: i16,
    parameters: &[Option<&[u8]>],
    result_format: i16,
) -> Vec<u8> {
    let mut body = [z(portal), z(statement)].concat();
    body.put_u16(1);
    body.put_i16(parameter_format);
    body.put_u16(parameters.len() as u16);
    for parameter in parameters {
        match parameter {
            None => body.put_i32(-1),
            Some(bytes) => {
                body.put_i32(bytes.len() as i32);
                body.put_slice(bytes);
            }
        }
    }
    body.put_u16(1);
    body.put_i16(result_format);
    message(b'B', &body)
}

/// `what` is `S` or `P` and the name.
pub(crate) fn describe(what: &str) -> Vec<u8> {
    message(b'D', &z(what))
}

pub(crate) fn close(what: &str) -> Vec<u8> {
    message(b'C', &z(what))
}

pub(crate) fn execute(portal: &str, max_rows: i32) -> Vec<u8> {
    let mut body = z(portal);
    body.put_i32(max_rows);
    message(b'E', &body)
}

pub(crate) fn sync() -> Vec<u8> {
    message(b'S', &[])
}

pub(crate) fn flush() -> Vec<u8> {
    message(b'H', &[])
}

pub(crate) fn copy_data(bytes: &[u8]) -> Vec<u8> {
    message(b'd', bytes)
}

pub(crate) fn copy_done() -> Vec<u8> {
    message(b'c', &[])
}

pub(crate) fn copy_fail(reason: &str) -> Vec<u8> {
    message(b'f', &z(reason))
}

pub(crate) fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_u32(196_608);
    for (name, value) in parameters {
        body.extend(z(name));
        body.extend(z(value));
    }
    body.push(0);
    let mut packet = Vec::new();
    packet.put_u32(body.len() as u32 + 4);
    packet.extend(body);
    packet
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Client {
        Client::connect_with(address, &[("user", "auspex")]).await
    }

    pub(crate) async fn connect_with(address: SocketAddr, parameters: &[(&str, &str)]) -> Client {
        let mut client = Client::raw(address).await;
        client.send(&[startup(parameters)]).await;
        client.greeting = client.until_ready().await;
        client
    }

    /// A connection on which nothing has been said.
    pub(crate) async fn raw(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, buffer: BytesMut::new(), pid: 0, secret: Vec::new(), greeting: Vec::new() }
    }

    pub(crate) async fn send(&mut self, messages: &[Vec<u8>]) {
        within(self.stream.write_all(&messages.concat())).await.unwrap();
    }

    /// Sends messages and shows what comes back up to ReadyForQuery.
    pub(crate) async fn ask(&mut self, messages: &[Vec<u8>]) -> Vec<String> {
        self.send(messages).await;
        self.until_ready().await
    }

    /// Runs a query.
    pub(crate) async fn query(&mut self, text: &str) -> Vec<String> {
        self.ask(&[query(text)]).await
    }

    /// Runs a query and compares the answers but the last, `Ready I`.
    pub(crate) async fn check(&mut self, text: &str, expected: &[&str]) {
        let mut answers = self.query(text).await;
        assert_eq!(answers.pop().as_deref(), Some("Ready I"), "{text}: {answers:?}");
        assert_eq!(answers, expected, "{text}");
    }

    pub(crate) async fn until_ready(&mut self) -> Vec<String> {
        let mut answers = Vec::new();
        loop {
            let Some(answer) = self.next().await else {
                answers.push("Closed".into());
                return answers;
            };
            let ready = answer.starts_with("Ready");
            answers.push(answer);
            if ready {
                return answers;
            }
        }
    }

    /// The next message as text; `None` when the server has closed the connection.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if self.buffer.len() >= 5 {
                let length = (&self.buffer[1..5]).get_u32() as usize;
                if self.buffer.len() > length {
                    let mut message = self.buffer.split_to(length + 1).freeze();
                    let kind = message.get_u8();
                    message.advance(4);
                    return Some(self.shown(kind, message));
                }
            }
            match within(self.stream.read_buf(&mut self.buffer)).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    fn shown(&mut self, kind: u8, mut body: Bytes) -> String {
        match kind {
            b'R' => format!("Authentication {}", body.get_i32()),
            b'S' => format!("Parameter {}={}", string(&mut body), string(&mut body)),
            b'K' => {
                self.pid = body.get_i32();
                self.secret = body.to_vec();
                "Key".into()
            }
            b'v' => format!("Negotiate {}", body.get_i32()),
            b'Z' => format!("Ready {}", body.get_u8() as char),
            b'1' => "Parsed".into(),
            b'2' => "Bound".into(),
            b'3' => "Closed".into(),
            b'n' => "NoData".into(),
            b's' => "Suspended".into(),
            b'I' => "Empty".into(),
            b'c' => "CopyDone".into(),
            b'd' => format!("CopyData {}", String::from_utf8_lossy(&body).trim_end_matches('\n')),
            b'G' | b'H' => {
                let name = if kind == b'G' { "CopyIn" } else { "CopyOut" };
                format!("{name} {} {}", body.get_i8(), body.get_i16())
            }
            b'C' => format!("Complete {}", string(&mut body)),
            b't' => {
                let types: Vec<String> =
                    (0..body.get_u16()).map(|_| body.get_u32().to_string()).collect();
                format!("Parameters {}", types.join(" "))
            }
            b'T' => {
                let fields: Vec<String> = (0..body.get_u16())
                    .map(|_| {
                        let name = string(&mut body);
                        body.advance(6);
                        let oid = body.get_u32();
                        body.advance(6);
                        let format = if body.get_i16() == 1 { "b" } else { "" };
                        format!("{name}:{oid}{format}")
                    })
                    .collect();
                format!("Columns {}", fields.join(" "))
            }
            b'D' => {
                let fields: Vec<String> = (0..body.get_u16())
                    .map(|_| match body.get_i32() {
                        -1 => "NULL".into(),
                        length => {
                            let value = body.split_to(length as usize);
                            match std::str::from_utf8(&value) {
                                Ok(text) if !text.contains('\0') => text.to_string(),
                                _ => value.iter().map(|b| format!("{b:02x}")).collect(),
                            }
                        }
                    })
                    .collect();
                format!("Row {}", fields.join("|"))
            }
            b'A' => {
                let pid = body.get_i32();
                let who = if pid == self.pid { "self" } else { "other" };
                format!("Notification {who} {} {}", string(&mut body), string(&mut body))
            }
            b'E' | b'N' => {
                let mut fields = std::collections::BTreeMap::new();
                loop {
                    match body.get_u8() {
                        0 => break,
                        code => fields.insert(code, string(&mut body)),
                    };
                }
                let mut shown = format!("{} {} {}", fields[&b'S'], fields[&b'C'], fields[&b'M']);
                if let Some(position) = fields.get(&b'P') {
                    shown += &format!(" @{position}");
                }
                shown
            }
            other => format!("? {}", other as char),
        }
    }
}

fn string(body: &mut Bytes) -> String {
    let end = body.iter().position(|b| *b == 0).unwrap();
    let text = body.split_to(end);
    body.advance(1);
    String::from_utf8(text.to_vec()).unwrap()
}

/// Asks for the cancellation of a statement and waits until the server has dealt with it.
pub(crate) async fn cancel(address: SocketAddr, pid: i32, secret: &[u8]) {
    let mut client = Client::raw(address).await;
    let mut packet = Vec::new();
    packet.put_u32(12 + secret.len() as u32);
    packet.put_u32(80_877_102);
    packet.put_i32(pid);
    packet.put_slice(secret);
    client.send(&[packet]).await;
    assert_eq!(client.next().await, None);
}
