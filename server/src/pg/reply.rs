//! Messages to the client.

use arrow::datatypes::Schema;
use auspex_plan::{Diagnostic, Severity};
use bytes::BufMut;
use pgwire::messages::copy::{CopyDone, CopyInResponse, CopyOutResponse};
use pgwire::messages::data::{FieldDescription, NoData, ParameterDescription, RowDescription};
use pgwire::messages::extendedquery::{
    BindComplete, CloseComplete, ParseComplete, PortalSuspended,
};
use pgwire::messages::response::{
    CommandComplete, EmptyQueryResponse, ErrorResponse, NoticeResponse, ReadyForQuery,
    TransactionStatus as WireStatus,
};
use pgwire::messages::startup::ParameterStatus;
use tokio::io::AsyncWrite;

use super::encode::{Column, Style};
use super::types::PgType;
use super::wire::Output;
use crate::engine::{Notification, TransactionStatus};

/// Format of a column on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Binary,
}

impl Format {
    fn code(self) -> i16 {
        match self {
            Format::Text => 0,
            Format::Binary => 1,
        }
    }
}

impl<W: AsyncWrite + Unpin> Output<W> {
    pub(super) fn parse_complete(&mut self) {
        self.put(&ParseComplete::new());
    }

    pub(super) fn bind_complete(&mut self) {
        self.put(&BindComplete::new());
    }

    pub(super) fn close_complete(&mut self) {
        self.put(&CloseComplete::new());
    }

    pub(super) fn portal_suspended(&mut self) {
        self.put(&PortalSuspended::new());
    }

    pub(super) fn empty_query(&mut self) {
        self.put(&EmptyQueryResponse::new());
    }

    pub(super) fn no_data(&mut self) {
        self.put(&NoData::new());
    }

    pub(super) fn copy_done(&mut self) {
        self.put(&CopyDone::new());
    }

    pub(super) fn command_complete(&mut self, tag: &str) {
        self.put(&CommandComplete::new(tag.to_string()));
    }

    pub(super) fn parameter_status(&mut self, name: &str, value: &str) {
        self.put(&ParameterStatus::new(without_nul(name), without_nul(value)));
    }

    pub(super) fn ready(&mut self, status: TransactionStatus) {
        self.put(&ReadyForQuery::new(match status {
            TransactionStatus::Idle => WireStatus::Idle,
            TransactionStatus::Open => WireStatus::Transaction,
            TransactionStatus::Failed => WireStatus::Error,
        }));
    }

    pub(super) fn parameter_description(&mut self, types: Vec<u32>) {
        self.put(&ParameterDescription::new(types));
    }

    /// `formats` holds one format per column, or none for text.
    pub(super) fn row_description(
        &mut self,
        schema: &Schema,
        formats: &[Format],
    ) -> Result<(), Diagnostic> {
        let fields = schema
            .fields()
            .iter()
            .enumerate()
            .map(|(at, field)| {
                let wire = PgType::of_field(field)?;
                let format = formats.get(at).copied().unwrap_or(Format::Text).code();
                let name = without_nul(field.name());
                Ok(FieldDescription::new(name, 0, 0, wire.oid, wire.length, wire.modifier, format))
            })
            .collect::<Result<Vec<_>, Diagnostic>>()?;
        self.put(&RowDescription::new(fields));
        Ok(())
    }

    /// One row, written straight into the buffer.
    #[inline]
    pub(super) fn data_row(&mut self, columns: &[(Column, Format)], row: usize, style: &Style) {
        let out = &mut self.buffer;
        let start = out.len();
        out.put_slice(&[b'D', 0, 0, 0, 0]);
        out.put_u16(columns.len() as u16);
        for (column, format) in columns {
            match format {
                Format::Text => column.text_field(row, style, out),
                Format::Binary => column.binary_field(row, out),
            }
        }
        let length = (out.len() - start - 1) as u32;
        out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
    }

    /// A notification, written straight into the buffer.
    pub(super) fn notification(&mut self, notification: &Notification) {
        let Notification { pid, channel, payload } = notification;
        let out = &mut self.buffer;
        out.put_u8(b'A');
        out.put_u32((4 + 4 + channel.len() + 1 + payload.len() + 1) as u32);
        out.put_i32(*pid);
        out.put_slice(channel.as_bytes());
        out.put_u8(0);
        out.put_slice(payload);
        out.put_u8(0);
    }

    pub(super) fn copy_in(&mut self, binary: bool, columns: usize) {
        let format = i16::from(binary);
        let columns = i16::try_from(columns).unwrap_or(i16::MAX);
        let formats = vec![format; columns as usize];
        self.put(&CopyInResponse::new(format as i8, columns, formats));
    }

    pub(super) fn copy_out(&mut self, binary: bool, columns: usize) {
        let format = i16::from(binary);
        let columns = i16::try_from(columns).unwrap_or(i16::MAX);
        let formats = vec![format; columns as usize];
        self.put(&CopyOutResponse::new(format as i8, columns, formats));
    }

    /// An error; `text` is the query string that its position counts in.
    pub(super) fn error(&mut self, error: &Diagnostic, text: Option<&str>) {
        self.put(&ErrorResponse::new(fields("ERROR", error, text)));
    }

    /// An error after which the connection ends.
    pub(super) fn fatal(&mut self, error: &Diagnostic) {
        self.put(&ErrorResponse::new(fields("FATAL", error, None)));
    }

    /// A notice or warning, unless `client_min_messages` is above it.
    pub(super) fn notice(&mut self, notice: &Diagnostic, text: Option<&str>, lowest: &str) {
        let warning = notice.state.0 != "00000" && notice.severity == Severity::Warning;
        let wanted = match lowest {
            "error" => false,
            "warning" => warning,
            _ => true,
        };
        if wanted {
            let severity = if warning { "WARNING" } else { "NOTICE" };
            self.put(&NoticeResponse::new(fields(severity, notice, text)));
        }
    }
}

fn fields(severity: &str, d: &Diagnostic, text: Option<&str>) -> Vec<(u8, String)> {
    let mut fields = vec![
        (b'S', severity.to_string()),
        (b'V', severity.to_string()),
        (b'C', d.state.0.to_string()),
        (b'M', without_nul(&d.message)),
    ];
    let detail = match (d.code, &d.detail) {
        (Some(code), Some(detail)) => Some(format!("{code}: {detail}")),
        (Some(code), None) => Some(code.to_string()),
        (None, detail) => detail.clone(),
    };
    if let Some(detail) = detail {
        fields.push((b'D', without_nul(&detail)));
    }
    if let Some(hint) = &d.hint {
        fields.push((b'H', without_nul(hint)));
    }
    if let Some(context) = &d.context {
        fields.push((b'W', without_nul(context)));
    }
    if let (Some(span), Some(text)) = (d.span, text) {
        fields.push((b'P', span.position(text).to_string()));
    }
    fields
}

/// Strings end at a NUL on the wire: one inside would garble the message.
fn without_nul(text: &str) -> String {
    text.replace('\0', "")
}
