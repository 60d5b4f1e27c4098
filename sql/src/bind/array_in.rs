//! Text to an array, as PostgreSQL reads array constants (its manual, section 8.15.2):
//! `{1,2,NULL,"a \"quoted\" item"}`, one dimension.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StringViewBuilder};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::DataType;
use auspex_plan::{ColumnType, Diagnostic, SqlState};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::convert::text_to;

/// The function that reads arrays of `item`.
pub(crate) fn array_in(item: ColumnType) -> Arc<ScalarUDF> {
    let name = format!("array_in_{item}");
    Arc::new(ScalarUDF::new_from_impl(ArrayIn {
        name,
        item,
        signature: Signature::any(1, Volatility::Immutable),
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ArrayIn {
    name: String,
    item: ColumnType,
    signature: Signature,
}

impl ScalarUDFImpl for ArrayIn {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(ColumnType::Array(Box::new(self.item.clone())).arrow())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let texts = cast(&arrays[0], &DataType::Utf8View)?;
        let lists: ArrayRef = Arc::new(read(&self.item, &texts)?);
        if constant && lists.len() == 1 {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&lists, 0)?));
        }
        Ok(ColumnarValue::Array(lists))
    }
}

fn read(item: &ColumnType, texts: &ArrayRef) -> Result<ListArray> {
    let mut items = StringViewBuilder::new();
    let mut lengths = Vec::with_capacity(texts.len());
    for text in texts.as_string_view() {
        let parsed = match text {
            Some(text) => parse(text).ok_or_else(|| malformed(text))?,
            None => Vec::new(),
        };
        lengths.push(parsed.len());
        parsed.iter().for_each(|i| items.append_option(i.as_deref()));
    }
    let items: ArrayRef = Arc::new(items.finish());
    let values = match text_to(item, &items) {
        Some(values) => values?,
        None => {
            let strict = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(&items, &item.arrow(), &strict)?
        }
    };
    let nulls = NullBuffer::from_iter((0..texts.len()).map(|i| texts.is_valid(i)));
    let field = Arc::new(item.field("item", true));
    Ok(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), values, Some(nulls))?)
}

fn malformed(text: &str) -> DataFusionError {
    DataFusionError::External(Box::new(Diagnostic::error(
        SqlState::INVALID_TEXT_REPRESENTATION,
        format!("malformed array literal: \"{text}\""),
    )))
}

/// The items of an array constant; `None` when it is not one of one dimension.
fn parse(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut items = Vec::new();
    let mut chars = inner.chars().peekable();
    if inner.trim().is_empty() {
        return Some(items);
    }
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.next_if_eq(&'"').is_some() {
            let mut item = String::new();
            loop {
                match chars.next()? {
                    '"' => break,
                    '\\' => item.push(chars.next()?),
                    c => item.push(c),
                }
            }
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
            items.push(Some(item));
        } else {
            let mut item = String::new();
            while let Some(c) = chars.next_if(|c| *c != ',') {
                match c {
                    '{' | '}' | '"' => return None,
                    '\\' => item.push(chars.next()?),
                    c => item.push(c),
                }
            }
            let item = item.trim_end();
            match item {
                "" => return None,
                _ if item.eq_ignore_ascii_case("null") => items.push(None),
                _ => items.push(Some(item.to_string())),
            }
        }
        match chars.next() {
            None => return Some(items),
            Some(',') => {}
            Some(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn array_constants_are_read_as_in_postgresql() {
        let some = |items: &[Option<&str>]| {
            Some(items.iter().map(|i| i.map(str::to_string)).collect::<Vec<_>>())
        };
        for (text, items) in [
            ("{}", some(&[])),
            ("{1, 2 ,NULL}", some(&[Some("1"), Some("2"), None])),
            (r#"{"a,b","NULL","q\"x"}"#, some(&[Some("a,b"), Some("NULL"), Some("q\"x")])),
            ("{a b}", some(&[Some("a b")])),
            ("1,2", None),
            ("{1,}", None),
            ("{{1},{2}}", None),
            (r#"{"a}"#, None),
        ] {
            assert_eq!(parse(text), items, "{text}");
        }
    }

    #[test]
    fn items_have_the_type_of_the_array() {
        let texts: ArrayRef =
            Arc::new(arrow::array::StringViewArray::from(vec![Some("{1,NULL}"), None]));
        let lists = read(&ColumnType::Integer, &texts).expect("integers");
        assert_eq!(lists.value(0).len(), 2);
        assert!(lists.value(0).is_null(1) && lists.is_null(1));
        let bad: ArrayRef = Arc::new(arrow::array::StringViewArray::from(vec!["{x}"]));
        assert!(read(&ColumnType::Integer, &bad).is_err());
    }
}
