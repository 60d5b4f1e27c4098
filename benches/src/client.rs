//! A PostgreSQL client that costs as little as possible, so that a benchmark measures the server.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A connection with simple queries and COPY.
pub struct Client {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

/// A message from the server.
struct Message {
    kind: u8,
    body: Vec<u8>,
}

/// Bytes of a COPY framed as `CopyData` messages of at most `piece` bytes.
pub fn frame(bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / piece * 5 + 5);
    for piece in bytes.chunks(piece) {
        out.push(b'd');
        out.extend((piece.len() as u32 + 4).to_be_bytes());
        out.extend_from_slice(piece);
    }
    out
}

impl Client {
    /// Connects without a password.
    pub fn connect(address: SocketAddr, user: &str, database: &str) -> io::Result<Client> {
        let writer = TcpStream::connect(address)?;
        writer.set_nodelay(true)?;
        let reader = BufReader::new(writer.try_clone()?);
        let mut client = Client { reader, writer };
        let settings = format!("user\0{user}\0database\0{database}\0\0");
        let mut startup = (settings.len() as u32 + 8).to_be_bytes().to_vec();
        startup.extend(196_608u32.to_be_bytes());
        startup.extend(settings.as_bytes());
        client.writer.write_all(&startup)?;
        client.until_ready()?;
        Ok(client)
    }

    /// Runs a statement; the values of its rows as text, empty for null.
    pub fn query(&mut self, sql: &str) -> io::Result<Vec<Vec<String>>> {
        self.send_query(sql)?;
        let mut rows = Vec::new();
        for message in self.until_ready()? {
            if message.kind == b'D' {
                rows.push(values(&message.body)?);
            }
        }
        Ok(rows)
    }

    /// Runs a `COPY .. FROM STDIN` with `framed` bytes (see [`frame`]).
    pub fn copy(&mut self, sql: &str, framed: &[u8]) -> io::Result<()> {
        self.send_query(sql)?;
        loop {
            let message = self.message()?;
            match message.kind {
                b'G' => break,
                b'E' => {
                    self.until_ready()?;
                    return Err(error(&message.body));
                }
                _ => {}
            }
        }
        self.writer.write_all(framed)?;
        self.writer.write_all(b"c\0\0\0\x04")?;
        self.until_ready().map(|_| ())
    }

    /// Waits for the next notification; its payload.
    pub fn notification(&mut self) -> io::Result<String> {
        loop {
            let message = self.message()?;
            match message.kind {
                b'A' => {
                    // pid, channel, payload, the latter two ended by NUL.
                    let mut parts = message.body[4..].split(|b| *b == 0);
                    let payload = parts.nth(1).unwrap_or_default();
                    return Ok(String::from_utf8_lossy(payload).into_owned());
                }
                b'E' => return Err(error(&message.body)),
                _ => {}
            }
        }
    }

    fn send_query(&mut self, sql: &str) -> io::Result<()> {
        let mut query = vec![b'Q'];
        query.extend((sql.len() as u32 + 5).to_be_bytes());
        query.extend(sql.as_bytes());
        query.push(0);
        self.writer.write_all(&query)
    }

    /// Messages up to `ReadyForQuery`; the first error among them as an error.
    fn until_ready(&mut self) -> io::Result<Vec<Message>> {
        let mut messages = Vec::new();
        let mut failed = None;
        loop {
            let message = self.message()?;
            match message.kind {
                b'Z' => break,
                b'E' => failed = failed.or_else(|| Some(error(&message.body))),
                _ => messages.push(message),
            }
        }
        failed.map_or(Ok(messages), Err)
    }

    fn message(&mut self) -> io::Result<Message> {
        let mut head = [0; 5];
        self.reader.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length.saturating_sub(4)];
        self.reader.read_exact(&mut body)?;
        Ok(Message { kind: head[0], body })
    }
}

fn values(body: &[u8]) -> io::Result<Vec<String>> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "a DataRow that ends early");
    let count = u16::from_be_bytes(*body.first_chunk().ok_or_else(bad)?);
    let mut rest = &body[2..];
    let mut values = Vec::new();
    for _ in 0..count {
        let length = i32::from_be_bytes(*rest.first_chunk().ok_or_else(bad)?).max(0) as usize;
        let value = rest.get(4..4 + length).ok_or_else(bad)?;
        values.push(String::from_utf8_lossy(value).into_owned());
        rest = &rest[4 + length..];
    }
    Ok(values)
}

fn error(body: &[u8]) -> io::Error {
    let fields: Vec<String> = body
        .split(|b| *b == 0)
        .filter(|field| matches!(field.first(), Some(b'C' | b'M' | b'D' | b'W')))
        .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
        .collect();
    io::Error::other(fields.join(": "))
}
