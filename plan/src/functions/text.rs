//! Functions over text: positions count characters from 0, negative ones from the end.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListBuilder, StringViewArray, StringViewBuilder};
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::common::Result;

use super::FunctionDef;
use super::define::{arity, function};
use super::lists::{position, slice_bounds};

pub(super) fn definitions() -> Vec<FunctionDef> {
    vec![
        FunctionDef {
            sql_names: &["char_at"],
            vpl_names: &["get"],
            summary: "char_at(text, position): one character, null outside the text",
            udf: function(
                "char_at",
                |t| arity("char_at", t, 2).map(|()| vec![DataType::Utf8View, DataType::Int64]),
                |_| Ok(DataType::Utf8View),
                char_at,
            ),
        },
        FunctionDef {
            sql_names: &["chars_between"],
            vpl_names: &["substring", "slice"],
            summary: "chars_between(text, from, to): characters from `from` up to but not `to`",
            udf: function(
                "chars_between",
                |t| {
                    arity("chars_between", t, 3)?;
                    Ok(vec![DataType::Utf8View, DataType::Int64, DataType::Int64])
                },
                |_| Ok(DataType::Utf8View),
                chars_between,
            ),
        },
        FunctionDef {
            sql_names: &["text_split"],
            vpl_names: &["split"],
            summary: "text_split(text, separator): the parts; single characters for separator ''",
            udf: function(
                "text_split",
                |t| arity("text_split", t, 2).map(|()| vec![DataType::Utf8View; 2]),
                |_| Ok(DataType::List(text_item())),
                split,
            ),
        },
        FunctionDef {
            sql_names: &["text_join"],
            vpl_names: &["join"],
            summary: "text_join(array, separator): the items in one text, nulls left out",
            udf: function(
                "text_join",
                |t| {
                    arity("text_join", t, 2)?;
                    Ok(vec![DataType::List(text_item()), DataType::Utf8View])
                },
                |_| Ok(DataType::Utf8View),
                join,
            ),
        },
    ]
}

fn text_item() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Utf8View, true))
}

/// The bytes of `text` that hold characters `from` up to but not `to`.
fn characters(text: &str, from: usize, to: usize) -> &str {
    if text.is_ascii() {
        return &text[from..to];
    }
    let mut starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    let Some(start) = starts.nth(from) else { return "" };
    let end = if to > from { starts.nth(to - from - 1).unwrap_or(text.len()) } else { start };
    &text[start..end]
}

fn count(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().count() }
}

fn char_at(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (texts, index) = (args[0].as_string_view(), args[1].as_primitive::<Int64Type>());
    let chars: StringViewArray = texts
        .iter()
        .zip(index)
        .map(|row| {
            let (text, index) = (row.0?, row.1?);
            let n = count(text);
            let at = position(index, n);
            (0..n as i64).contains(&at).then(|| characters(text, at as usize, at as usize + 1))
        })
        .collect();
    Ok(Arc::new(chars))
}

fn chars_between(args: &[ArrayRef]) -> Result<ArrayRef> {
    let texts = args[0].as_string_view();
    let (from, to) = (args[1].as_primitive::<Int64Type>(), args[2].as_primitive::<Int64Type>());
    let slices: StringViewArray = texts
        .iter()
        .zip(from)
        .zip(to)
        .map(|((text, from), to)| {
            let text = text?;
            let (a, b) = slice_bounds(from?, to?, count(text));
            Some(characters(text, a, b))
        })
        .collect();
    Ok(Arc::new(slices))
}

fn split(args: &[ArrayRef]) -> Result<ArrayRef> {
    let mut parts = ListBuilder::new(StringViewBuilder::new()).with_field(text_item());
    for (text, separator) in args[0].as_string_view().iter().zip(args[1].as_string_view()) {
        let (Some(text), Some(separator)) = (text, separator) else {
            parts.append_null();
            continue;
        };
        if separator.is_empty() {
            let mut buffer = [0; 4];
            text.chars().for_each(|c| parts.values().append_value(c.encode_utf8(&mut buffer)));
        } else {
            text.split(separator).for_each(|part| parts.values().append_value(part));
        }
        parts.append(true);
    }
    Ok(Arc::new(parts.finish()))
}

fn join(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (lists, separators) = (args[0].as_list::<i32>(), args[1].as_string_view());
    let items = lists.values().as_string_view();
    let mut joined = StringViewBuilder::with_capacity(lists.len());
    let mut text = String::new();
    for i in 0..lists.len() {
        if lists.is_null(i) || separators.is_null(i) {
            joined.append_null();
            continue;
        }
        text.clear();
        let range = lists.value_offsets()[i] as usize..lists.value_offsets()[i + 1] as usize;
        for (n, p) in range.filter(|p| items.is_valid(*p)).enumerate() {
            if n > 0 {
                text.push_str(separators.value(i));
            }
            text.push_str(items.value(p));
        }
        joined.append_value(&text);
    }
    Ok(Arc::new(joined.finish()))
}

/// A duration as VPL writes it, such as `1h30m`: the units from days to nanoseconds that are not
/// zero, with one sign in front; months stand before as `2mo`.
pub fn duration_text(months: i32, days: i32, nanoseconds: i64) -> String {
    const UNITS: [(&str, i128); 6] = [
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];
    const DAY: i128 = 86_400_000_000_000;
    let mut text = String::new();
    if months != 0 {
        let _ = write!(text, "{months}mo");
    }
    let total = i128::from(days) * DAY + i128::from(nanoseconds);
    if total < 0 {
        text.push('-');
    }
    let mut rest = total.abs();
    // Days only when nothing smaller is left, so that 36 hours stay 36h.
    if rest != 0 && rest % DAY == 0 {
        let _ = write!(text, "{}d", rest / DAY);
        return text;
    }
    for (unit, size) in UNITS {
        if rest >= size {
            let _ = write!(text, "{}{unit}", rest / size);
            rest %= size;
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    fn text(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringViewArray::from(values.to_vec()))
    }

    fn ints(values: &[i64]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    #[test]
    fn positions_count_characters() {
        let words = text(&[Some("été"), Some("abc"), Some(""), None]);
        let got = char_at(&[words.clone(), ints(&[-1; 4])]).unwrap();
        assert_eq!(&got, &text(&[Some("é"), Some("c"), None, None]));
        let got = chars_between(&[words.clone(), ints(&[0; 4]), ints(&[2; 4])]).unwrap();
        assert_eq!(&got, &text(&[Some("ét"), Some("ab"), Some(""), None]));
        let got = chars_between(&[words, ints(&[1; 4]), ints(&[i64::MAX; 4])]).unwrap();
        assert_eq!(&got, &text(&[Some("té"), Some("bc"), Some(""), None]));
    }

    #[test]
    fn join_undoes_split() {
        let words = text(&[Some("a,b,,é"), Some("")]);
        let comma = text(&[Some(","), Some(",")]);
        let parts = split(&[words.clone(), comma.clone()]).unwrap();
        assert_eq!(parts.as_list::<i32>().value_length(0), 4);
        assert_eq!(&join(&[parts, comma]).unwrap(), &words);
    }

    #[test]
    fn durations_read_like_vpl() {
        let check = |nanoseconds: i64, expected: &str| {
            assert_eq!(duration_text(0, 0, nanoseconds), expected);
        };
        check(5_400_000_000_000, "1h30m");
        check(-5_280_000_000_000, "-1h28m");
        check(1_002_000_000, "1s2ms");
        check(129_600_000_000_000, "36h");
        check(172_800_000_000_000, "2d");
        check(0, "0s");
        assert_eq!(duration_text(0, 1, 3_600_000_000_000), "25h");
    }
}
