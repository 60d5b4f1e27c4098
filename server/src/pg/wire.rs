//! The two halves of a connection: one buffer of bytes read, one of bytes to write.
//!
//! Reading and writing are cancel safe: a future that is dropped loses no bytes. That is what lets
//! a connection wait for several things at once.

use std::io;

use auspex_plan::{Diagnostic, SqlState};
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of type and length in front of every message.
const HEADER: usize = 5;
/// Room made for each read.
const READ_SIZE: usize = 16 << 10;
/// Room made for each read while rows are being sent to us.
const BULK_READ_SIZE: usize = 512 << 10;
/// Bytes that are read ahead while a statement is running.
const READ_AHEAD: usize = 1 << 20;
/// Written bytes are sent when there are more than this.
const WRITE_SIZE: usize = 64 << 10;

/// Why a message cannot be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The client has gone.
    Gone,
    /// What it sent cannot be a message: the connection ends with this error.
    Fatal(Diagnostic),
}

/// What comes next in a COPY.
pub(super) enum CopyNext {
    /// This many bytes of rows.
    Data(usize),
    /// Another message: its type and body.
    Message(u8, Bytes),
}

/// Bytes from the client.
pub(super) struct Input<R> {
    reader: R,
    buffer: BytesMut,
    /// Largest message other than `CopyData`.
    limit: usize,
    bulk: bool,
    /// Bytes of a `CopyData` message that are still to come.
    copy_rest: usize,
}

impl<R: AsyncRead + Unpin> Input<R> {
    pub(super) fn new(reader: R, limit: usize) -> Self {
        Input { reader, buffer: BytesMut::new(), limit, bulk: false, copy_rest: 0 }
    }

    /// Reads into larger pieces, for COPY.
    pub(super) fn set_bulk(&mut self, bulk: bool) {
        self.bulk = bulk;
    }

    /// Reads whatever there is, at least one byte.
    async fn fill(&mut self) -> Result<(), ReadError> {
        let room = if self.bulk { BULK_READ_SIZE } else { READ_SIZE };
        if self.buffer.capacity() - self.buffer.len() < room / 2 {
            self.buffer.reserve(room);
        }
        match self.reader.read_buf(&mut self.buffer).await {
            Ok(0) | Err(_) => Err(ReadError::Gone),
            Ok(_) => Ok(()),
        }
    }

    /// Type and body length of the next message, once its header is here.
    fn header(&self) -> Result<Option<(u8, usize)>, ReadError> {
        let [kind, a, b, c, d] = match self.buffer.first_chunk::<HEADER>() {
            Some(header) => *header,
            None => return Ok(None),
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length < 4 {
            return Err(ReadError::Fatal(Diagnostic::error(
                SqlState::PROTOCOL_VIOLATION,
                "invalid message length",
            )));
        }
        let body = length - 4;
        if kind != b'd' && body > self.limit {
            return Err(ReadError::Fatal(
                Diagnostic::error(
                    SqlState::PROGRAM_LIMIT_EXCEEDED,
                    format!("message of {body} bytes exceeds the limit of {} bytes", self.limit),
                )
                .hint("Send large amounts of data with COPY."),
            ));
        }
        Ok(Some((kind, body)))
    }

    /// The next message: its type and body. A `CopyData` outside of COPY is skipped: clients send
    /// it ahead of knowing that their COPY has failed.
    pub(super) async fn message(&mut self) -> Result<(u8, Bytes), ReadError> {
        loop {
            if self.copy_rest > 0 {
                let used = self.copy_rest.min(self.buffer.len());
                self.buffer.advance(used);
                self.copy_rest -= used;
                if self.copy_rest > 0 {
                    self.fill().await?;
                }
                continue;
            }
            match self.header()? {
                Some((b'd', body)) => {
                    self.buffer.advance(HEADER);
                    self.copy_rest = body;
                }
                Some((kind, body)) if self.buffer.len() >= HEADER + body => {
                    let mut message = self.buffer.split_to(HEADER + body).freeze();
                    message.advance(HEADER);
                    return Ok((kind, message));
                }
                _ => self.fill().await?,
            }
        }
    }

    /// The next thing of a COPY: a piece of `CopyData`, as large as is here, or another message.
    /// A piece is read with [`Input::piece`] and taken away with [`Input::consume`].
    pub(super) async fn copy_next(&mut self) -> Result<CopyNext, ReadError> {
        loop {
            if self.copy_rest > 0 {
                if self.buffer.is_empty() {
                    self.fill().await?;
                }
                return Ok(CopyNext::Data(self.copy_rest.min(self.buffer.len())));
            }
            match self.header()? {
                Some((b'd', body)) => {
                    self.buffer.advance(HEADER);
                    self.copy_rest = body;
                }
                Some((_, body)) if self.buffer.len() >= HEADER + body => {
                    let (kind, body) = self.message().await?;
                    return Ok(CopyNext::Message(kind, body));
                }
                _ => self.fill().await?,
            }
        }
    }

    /// The first `length` bytes, which [`Input::copy_next`] said are here.
    pub(super) fn piece(&self, length: usize) -> &[u8] {
        &self.buffer[..length]
    }

    /// Takes `length` bytes of a piece of `CopyData` away.
    pub(super) fn consume(&mut self, length: usize) {
        self.buffer.advance(length);
        self.copy_rest -= length;
    }

    /// Returns when the client goes away. Meanwhile reads ahead a little.
    pub(super) async fn gone(&mut self) {
        loop {
            if self.buffer.len() >= READ_AHEAD {
                return std::future::pending().await;
            }
            if self.fill().await.is_err() {
                return;
            }
        }
    }

    /// Exactly `N` bytes at the front, without taking them; for the startup packets.
    pub(super) async fn peek<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        loop {
            if let Some(bytes) = self.buffer.first_chunk::<N>() {
                return Ok(*bytes);
            }
            self.fill().await?;
        }
    }

    /// Takes exactly `length` bytes.
    pub(super) async fn take(&mut self, length: usize) -> Result<Bytes, ReadError> {
        while self.buffer.len() < length {
            self.fill().await?;
        }
        Ok(self.buffer.split_to(length).freeze())
    }
}

/// Bytes for the client.
pub(super) struct Output<W> {
    writer: W,
    /// What has been written and not sent.
    pub(super) buffer: BytesMut,
}

impl<W: AsyncWrite + Unpin> Output<W> {
    pub(super) fn new(writer: W) -> Self {
        Output { writer, buffer: BytesMut::with_capacity(8 << 10) }
    }

    /// Whether it is time to send.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() >= WRITE_SIZE
    }

    /// Writes a message.
    pub(super) fn put<M: pgwire::messages::Message>(&mut self, message: &M) {
        let start = self.buffer.len();
        if let Err(error) = message.encode(&mut self.buffer) {
            // Only possible for texts beyond pgwire's limits, such as a setting of 30 kB.
            self.buffer.truncate(start);
            tracing::warn!(%error, "could not send a message");
        }
    }

    /// Sends everything written so far.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        while !self.buffer.is_empty() {
            match self.writer.write_buf(&mut self.buffer).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                _ => continue,
            }
        }
        self.writer.flush().await
    }
}
