//! Functions over arrays: positions count from 0, negative ones from the end, and what lies
//! outside is null (one item) or cut off (a slice).

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, Int64Array, ListArray, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::kernels::cmp;
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, Field, Int64Type};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, exec_err};

use super::FunctionDef;
use super::define::{arity, function, item_type};

pub(super) fn definitions() -> Vec<FunctionDef> {
    vec![
        FunctionDef {
            sql_names: &["item_at"],
            vpl_names: &["get"],
            summary: "item_at(array, position): the item, null outside the array",
            udf: function("item_at", list_and_int, |t| item_type("item_at", &t[0]), item_at),
        },
        FunctionDef {
            sql_names: &["items_between"],
            vpl_names: &["slice"],
            summary: "items_between(array, from, to): items from `from` up to but not `to`",
            udf: function("items_between", list_and_ints, |t| Ok(t[0].clone()), items_between),
        },
        FunctionDef {
            sql_names: &["item_count"],
            vpl_names: &["len"],
            summary: "item_count(array | map): number of items",
            udf: function("item_count", one, |_| Ok(DataType::Int64), item_count),
        },
        FunctionDef {
            sql_names: &["contains_item"],
            vpl_names: &["contains"],
            summary: "contains_item(array, item): whether an item equals it; null when unknown",
            udf: function("contains_item", list_and_item, |_| Ok(DataType::Boolean), contains_item),
        },
        FunctionDef {
            sql_names: &["items_reversed"],
            vpl_names: &["reverse"],
            summary: "items_reversed(array): last item first",
            udf: function("items_reversed", one, |t| Ok(t[0].clone()), reversed),
        },
        FunctionDef {
            sql_names: &["items_sorted"],
            vpl_names: &["sort"],
            summary: "items_sorted(array): least first, nulls last",
            udf: function("items_sorted", one, |t| Ok(t[0].clone()), sorted),
        },
        FunctionDef {
            sql_names: &["items_unique"],
            vpl_names: &["unique"],
            summary: "items_unique(array): each item once, in order of first appearance",
            udf: function("items_unique", one, |t| Ok(t[0].clone()), unique),
        },
        FunctionDef {
            sql_names: &["item_pushed"],
            vpl_names: &["push"],
            summary: "item_pushed(array, item): the array with the item behind it",
            udf: function("item_pushed", list_and_item, |t| Ok(t[0].clone()), pushed),
        },
        FunctionDef {
            sql_names: &["items_joined"],
            vpl_names: &["concat"],
            summary: "items_joined(array, array): one behind the other",
            udf: function("items_joined", two_lists, |t| Ok(t[0].clone()), joined),
        },
        FunctionDef {
            sql_names: &["item_replaced"],
            vpl_names: &["set"],
            summary: "item_replaced(array, position, item): an error outside the array",
            udf: function("item_replaced", list_int_item, |t| Ok(t[0].clone()), replaced),
        },
        FunctionDef {
            sql_names: &["items_flattened"],
            vpl_names: &["flatten"],
            summary: "items_flattened(array of arrays): their items in one array",
            udf: function(
                "items_flattened",
                one,
                |t| {
                    let inner = item_type("items_flattened", &t[0])?;
                    item_type("items_flattened", &inner)?;
                    Ok(inner)
                },
                flattened,
            ),
        },
        FunctionDef {
            sql_names: &["int_range"],
            vpl_names: &["range"],
            summary: "int_range(from, to): the integers from `from` up to but not `to`",
            udf: function(
                "int_range",
                |t| arity("int_range", t, 2).map(|()| vec![DataType::Int64; 2]),
                |_| Ok(int_list()),
                int_range,
            ),
        },
    ]
}

/// Most items that `int_range` makes in one row.
const MAX_RANGE: i64 = 1_000_000;

fn int_list() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Int64, true)))
}

fn one(types: &[DataType]) -> Result<Vec<DataType>> {
    arity("the function", types, 1)?;
    Ok(types.to_vec())
}

fn list_and_int(types: &[DataType]) -> Result<Vec<DataType>> {
    arity("item_at", types, 2)?;
    item_type("item_at", &types[0])?;
    Ok(vec![types[0].clone(), DataType::Int64])
}

fn list_and_ints(types: &[DataType]) -> Result<Vec<DataType>> {
    arity("items_between", types, 3)?;
    item_type("items_between", &types[0])?;
    Ok(vec![types[0].clone(), DataType::Int64, DataType::Int64])
}

fn list_and_item(types: &[DataType]) -> Result<Vec<DataType>> {
    arity("the function", types, 2)?;
    Ok(vec![types[0].clone(), item_type("the function", &types[0])?])
}

fn list_int_item(types: &[DataType]) -> Result<Vec<DataType>> {
    arity("item_replaced", types, 3)?;
    Ok(vec![types[0].clone(), DataType::Int64, item_type("item_replaced", &types[0])?])
}

fn two_lists(types: &[DataType]) -> Result<Vec<DataType>> {
    arity("items_joined", types, 2)?;
    item_type("items_joined", &types[0])?;
    Ok(vec![types[0].clone(), types[0].clone()])
}

/// Where a position that may count from the end lies in `n` items; may be outside.
pub(super) fn position(index: i64, n: usize) -> i64 {
    if index < 0 { index + n as i64 } else { index }
}

/// The half-open range that a slice takes of `n` items.
pub(super) fn slice_bounds(from: i64, to: i64, n: usize) -> (usize, usize) {
    let start = position(from, n).clamp(0, n as i64) as usize;
    let end = position(to, n).clamp(0, n as i64) as usize;
    (start, end.max(start))
}

/// First item and number of items of row `i`; (0, 0) for a null row.
fn extent(list: &ListArray, i: usize) -> (usize, usize) {
    if list.is_null(i) {
        return (0, 0);
    }
    let start = list.value_offsets()[i] as usize;
    (start, list.value_offsets()[i + 1] as usize - start)
}

/// Number of the row that each item of each non-null row belongs to, and the item's place.
fn items(list: &ListArray) -> (UInt64Array, UInt64Array, OffsetBuffer<i32>) {
    let total = list.values().len();
    let (mut rows, mut places) = (Vec::with_capacity(total), Vec::with_capacity(total));
    let mut lengths = Vec::with_capacity(list.len());
    for i in 0..list.len() {
        let (start, n) = extent(list, i);
        rows.extend(std::iter::repeat_n(i as u64, n));
        places.extend((start..start + n).map(|p| p as u64));
        lengths.push(n);
    }
    (rows.into(), places.into(), OffsetBuffer::from_lengths(lengths))
}

/// A list whose rows are the items of `values` at the given places.
fn gather(
    list_type: &DataType,
    values: &ArrayRef,
    places: Vec<u64>,
    lengths: Vec<usize>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let values = take(values, &UInt64Array::from(places), None)?;
    list_of(list_type, OffsetBuffer::from_lengths(lengths), values, nulls)
}

fn list_of(
    list_type: &DataType,
    offsets: OffsetBuffer<i32>,
    values: ArrayRef,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let DataType::List(field) = list_type else {
        return exec_err!("{list_type} is not an array type");
    };
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, values, nulls)?))
}

fn both_valid(a: &dyn Array, b: &dyn Array) -> Option<NullBuffer> {
    NullBuffer::union(a.logical_nulls().as_ref(), b.logical_nulls().as_ref())
}

fn item_at(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (list, index) = (args[0].as_list::<i32>(), args[1].as_primitive::<Int64Type>());
    let places: UInt64Array = (0..list.len())
        .map(|i| {
            let (start, n) = extent(list, i);
            let at = position(index.is_valid(i).then(|| index.value(i))?, n);
            (0..n as i64).contains(&at).then(|| start as u64 + at as u64)
        })
        .collect();
    Ok(take(list.values(), &places, None)?)
}

fn items_between(args: &[ArrayRef]) -> Result<ArrayRef> {
    let list = args[0].as_list::<i32>();
    let from = args[1].as_primitive::<Int64Type>();
    let to = args[2].as_primitive::<Int64Type>();
    let nulls = NullBuffer::union(both_valid(list, from).as_ref(), to.nulls());
    let (mut places, mut lengths) = (Vec::new(), Vec::with_capacity(list.len()));
    for i in 0..list.len() {
        if nulls.as_ref().is_some_and(|n| n.is_null(i)) {
            lengths.push(0);
            continue;
        }
        let (start, n) = extent(list, i);
        let (a, b) = slice_bounds(from.value(i), to.value(i), n);
        places.extend((start + a..start + b).map(|p| p as u64));
        lengths.push(b - a);
    }
    gather(list.data_type(), list.values(), places, lengths, nulls)
}

fn item_count(args: &[ArrayRef]) -> Result<ArrayRef> {
    let offsets = match args[0].data_type() {
        DataType::List(_) => args[0].as_list::<i32>().value_offsets(),
        DataType::Map(..) => args[0].as_map().value_offsets(),
        other => return exec_err!("item_count takes an array or map, not {other}"),
    };
    let counts: Vec<i64> = offsets.windows(2).map(|w| i64::from(w[1] - w[0])).collect();
    Ok(Arc::new(Int64Array::new(counts.into(), args[0].nulls().cloned())))
}

fn contains_item(args: &[ArrayRef]) -> Result<ArrayRef> {
    let list = args[0].as_list::<i32>();
    let (rows, places, offsets) = items(list);
    let candidates = take(list.values(), &places, None)?;
    let wanted = take(&args[1], &rows, None)?;
    let equal: BooleanArray = cmp::eq(&candidates, &wanted)?;
    let mut found = BooleanBuilder::with_capacity(list.len());
    for i in 0..list.len() {
        let range = offsets[i] as usize..offsets[i + 1] as usize;
        if list.is_null(i) || (args[1].is_null(i) && !range.is_empty()) {
            found.append_null();
        } else if range.clone().any(|p| equal.is_valid(p) && equal.value(p)) {
            found.append_value(true);
        } else if range.clone().any(|p| equal.is_null(p)) {
            found.append_null();
        } else {
            found.append_value(false);
        }
    }
    Ok(Arc::new(found.finish()))
}

fn reversed(args: &[ArrayRef]) -> Result<ArrayRef> {
    reorder(args[0].as_list::<i32>(), |places| {
        places.reverse();
        Ok(())
    })
}

fn sorted(args: &[ArrayRef]) -> Result<ArrayRef> {
    let list = args[0].as_list::<i32>();
    let options = arrow::compute::SortOptions { descending: false, nulls_first: false };
    let field = SortField::new_with_options(list.value_type(), options);
    let rows = RowConverter::new(vec![field])?.convert_columns(&[Arc::clone(list.values())])?;
    reorder(list, |places| {
        places.sort_by(|a, b| rows.row(*a as usize).cmp(&rows.row(*b as usize)));
        Ok(())
    })
}

fn unique(args: &[ArrayRef]) -> Result<ArrayRef> {
    let list = args[0].as_list::<i32>();
    let field = SortField::new(list.value_type());
    let rows = RowConverter::new(vec![field])?.convert_columns(&[Arc::clone(list.values())])?;
    reorder(list, |places| {
        let mut seen = HashSet::with_capacity(places.len());
        places.retain(|p| seen.insert(rows.row(*p as usize)));
        Ok(())
    })
}

/// Rearranges or thins out the items of each row.
fn reorder(
    list: &ListArray,
    mut change: impl FnMut(&mut Vec<u64>) -> Result<()>,
) -> Result<ArrayRef> {
    let (mut all, mut lengths) = (Vec::new(), Vec::with_capacity(list.len()));
    let mut places = Vec::new();
    for i in 0..list.len() {
        let (start, n) = extent(list, i);
        places.clear();
        places.extend((start..start + n).map(|p| p as u64));
        change(&mut places)?;
        lengths.push(places.len());
        all.extend_from_slice(&places);
    }
    gather(list.data_type(), list.values(), all, lengths, list.nulls().cloned())
}

fn pushed(args: &[ArrayRef]) -> Result<ArrayRef> {
    let list = args[0].as_list::<i32>();
    let (mut picks, mut lengths) = (Vec::new(), Vec::with_capacity(list.len()));
    for i in 0..list.len() {
        let (start, n) = extent(list, i);
        picks.extend((start..start + n).map(|p| (0, p)));
        let added = usize::from(list.is_valid(i));
        picks.extend(std::iter::repeat_n((1, i), added));
        lengths.push(n + added);
    }
    let values = interleave(&[list.values().as_ref(), args[1].as_ref()], &picks)?;
    list_of(list.data_type(), OffsetBuffer::from_lengths(lengths), values, list.nulls().cloned())
}

fn joined(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (a, b) = (args[0].as_list::<i32>(), args[1].as_list::<i32>());
    let nulls = both_valid(a, b);
    let (mut picks, mut lengths) = (Vec::new(), Vec::with_capacity(a.len()));
    for i in 0..a.len() {
        if nulls.as_ref().is_some_and(|n| n.is_null(i)) {
            lengths.push(0);
            continue;
        }
        let ((start_a, n_a), (start_b, n_b)) = (extent(a, i), extent(b, i));
        picks.extend((start_a..start_a + n_a).map(|p| (0, p)));
        picks.extend((start_b..start_b + n_b).map(|p| (1, p)));
        lengths.push(n_a + n_b);
    }
    let values = interleave(&[a.values().as_ref(), b.values().as_ref()], &picks)?;
    list_of(a.data_type(), OffsetBuffer::from_lengths(lengths), values, nulls)
}

fn replaced(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (list, index) = (args[0].as_list::<i32>(), args[1].as_primitive::<Int64Type>());
    let nulls = both_valid(list, index);
    let (mut picks, mut lengths) = (Vec::new(), Vec::with_capacity(list.len()));
    for i in 0..list.len() {
        if nulls.as_ref().is_some_and(|n| n.is_null(i)) {
            lengths.push(0);
            continue;
        }
        let (start, n) = extent(list, i);
        let at = position(index.value(i), n);
        if !(0..n as i64).contains(&at) {
            return exec_err!("position {} lies outside an array of {n} items", index.value(i));
        }
        picks.extend((0..n).map(|p| if p as i64 == at { (1, i) } else { (0, start + p) }));
        lengths.push(n);
    }
    let values = interleave(&[list.values().as_ref(), args[2].as_ref()], &picks)?;
    list_of(list.data_type(), OffsetBuffer::from_lengths(lengths), values, nulls)
}

fn flattened(args: &[ArrayRef]) -> Result<ArrayRef> {
    let outer = args[0].as_list::<i32>();
    let inner = outer.values().as_list::<i32>();
    let (mut places, mut lengths) = (Vec::new(), Vec::with_capacity(outer.len()));
    for i in 0..outer.len() {
        let (start, n) = extent(outer, i);
        let before = places.len();
        for row in start..start + n {
            let (first, count) = extent(inner, row);
            places.extend((first..first + count).map(|p| p as u64));
        }
        lengths.push(places.len() - before);
    }
    gather(inner.data_type(), inner.values(), places, lengths, outer.nulls().cloned())
}

fn int_range(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (from, to) = (args[0].as_primitive::<Int64Type>(), args[1].as_primitive::<Int64Type>());
    let nulls = both_valid(from, to);
    let (mut values, mut lengths) = (Vec::new(), Vec::with_capacity(from.len()));
    for i in 0..from.len() {
        if nulls.as_ref().is_some_and(|n| n.is_null(i)) {
            lengths.push(0);
            continue;
        }
        let (a, b) = (from.value(i), to.value(i));
        let n = b.saturating_sub(a).max(0);
        if n > MAX_RANGE {
            return exec_err!("a range of {n} items is longer than {MAX_RANGE}");
        }
        values.extend(a..a + n);
        lengths.push(n as usize);
    }
    let values: ArrayRef = Arc::new(Int64Array::from(values));
    list_of(&int_list(), OffsetBuffer::from_lengths(lengths), values, nulls)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ListArray, StringViewArray};

    use super::*;

    fn ints(rows: &[Option<&[i64]>]) -> ArrayRef {
        let rows = rows.iter().map(|r| r.map(|r| r.iter().copied().map(Some).collect::<Vec<_>>()));
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(rows))
    }

    fn numbers(values: &[Option<i64>]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    #[test]
    fn index_counts_from_both_ends_and_is_null_outside() {
        let list = ints(&[Some(&[4, 3, 2, 1]), Some(&[9]), None, Some(&[])]);
        let check = |index: i64, expected: &[Option<i64>]| {
            let got = item_at(&[list.clone(), numbers(&[Some(index); 4])]).unwrap();
            assert_eq!(&got, &numbers(expected), "index {index}");
        };
        check(0, &[Some(4), Some(9), None, None]);
        check(-1, &[Some(1), Some(9), None, None]);
        check(3, &[Some(1), None, None, None]);
        check(-5, &[None; 4]);
        check(i64::MIN, &[None; 4]);
    }

    #[test]
    fn slices_clamp() {
        let list = ints(&[Some(&[4, 3, 2, 1]), None]);
        let check = |from: i64, to: i64, expected: &[i64]| {
            let args = [list.clone(), numbers(&[Some(from); 2]), numbers(&[Some(to); 2])];
            assert_eq!(&items_between(&args).unwrap(), &ints(&[Some(expected), None]));
        };
        check(1, 3, &[3, 2]);
        check(-2, i64::MAX, &[2, 1]);
        check(3, 1, &[]);
        check(-99, 1, &[4]);
    }

    #[test]
    fn contains_is_three_valued() {
        let rows = vec![
            Some(vec![Some(1), None]),
            Some(vec![Some(1), None]),
            Some(vec![Some(2)]),
            Some(vec![]),
            None,
            Some(vec![Some(1)]),
        ];
        let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(rows));
        let wanted = numbers(&[Some(1), Some(2), Some(1), None, Some(1), None]);
        let got = contains_item(&[list, wanted]).unwrap();
        let expected = vec![Some(true), None, Some(false), Some(false), None, None];
        assert_eq!(got.as_boolean(), &BooleanArray::from(expected));
    }

    #[test]
    fn sliced_arrays_keep_their_rows() {
        let list = ints(&[Some(&[7, 7]), Some(&[3, 1, 3]), Some(&[5])]).slice(1, 2);
        let expect = |got: Result<ArrayRef>, rows: &[&[i64]]| {
            let rows: Vec<Option<&[i64]>> = rows.iter().map(|r| Some(*r)).collect();
            assert_eq!(&got.unwrap(), &ints(&rows));
        };
        expect(reversed(std::slice::from_ref(&list)), &[&[3, 1, 3], &[5]]);
        expect(sorted(std::slice::from_ref(&list)), &[&[1, 3, 3], &[5]]);
        expect(unique(std::slice::from_ref(&list)), &[&[3, 1], &[5]]);
        let added = numbers(&[Some(8), Some(9)]);
        expect(pushed(&[list.clone(), added.clone()]), &[&[3, 1, 3, 8], &[5, 9]]);
        expect(joined(&[list.clone(), list.clone()]), &[&[3, 1, 3, 3, 1, 3], &[5, 5]]);
        let at = numbers(&[Some(-1), Some(0)]);
        expect(replaced(&[list.clone(), at, added]), &[&[3, 1, 8], &[9]]);
        assert_eq!(&item_count(&[list]).unwrap(), &numbers(&[Some(3), Some(1)]));
    }

    #[test]
    fn replacing_outside_is_an_error() {
        let list = ints(&[Some(&[1])]);
        assert!(replaced(&[list, numbers(&[Some(1)]), numbers(&[Some(0)])]).is_err());
    }

    #[test]
    fn text_items_compare_by_code_point() {
        let values: ArrayRef = Arc::new(StringViewArray::from(vec!["é", "a", "Z"]));
        let field = Arc::new(Field::new("item", DataType::Utf8View, true));
        let offsets = OffsetBuffer::from_lengths([3]);
        let list: ArrayRef = Arc::new(ListArray::new(field, offsets, values, None));
        let got = sorted(&[list]).unwrap();
        let got = got.as_list::<i32>().value(0);
        assert_eq!(got.as_string_view(), &StringViewArray::from(vec!["Z", "a", "é"]));
    }

    #[test]
    fn a_range_ends_before_its_end_and_is_bounded() {
        let got = int_range(&[numbers(&[Some(1), Some(3)]), numbers(&[Some(4), Some(3)])]).unwrap();
        assert_eq!(&got, &ints(&[Some(&[1, 2, 3]), Some(&[])]));
        assert!(int_range(&[numbers(&[Some(0)]), numbers(&[Some(i64::MAX)])]).is_err());
    }
}
