//! Functions over maps: look-up, membership, construction and change. A missing key gives null.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, ListArray, MapArray, StructArray, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::kernels::cmp;
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, exec_err, plan_err};

use super::FunctionDef;
use super::define::{arity, entry_types, function};

pub(super) fn definitions() -> Vec<FunctionDef> {
    vec![
        FunctionDef {
            sql_names: &["map_get"],
            vpl_names: &["get"],
            summary: "map_get(map, key): the key's value, null when there is none",
            udf: function("map_get", map_and_key, |t| Ok(entry_types("map_get", &t[0])?.1), get),
        },
        FunctionDef {
            sql_names: &["map_has"],
            vpl_names: &["contains"],
            summary: "map_has(map, key): whether the map has the key",
            udf: function("map_has", map_and_key, |_| Ok(DataType::Boolean), has),
        },
        FunctionDef {
            sql_names: &["map_of"],
            vpl_names: &[],
            summary: "map_of(key, value, ..): a map of these entries",
            udf: function(
                "map_of",
                |types| match types.len() {
                    0 => plan_err!("map_of takes at least one key and value"),
                    n if n % 2 == 1 => plan_err!("map_of takes pairs of key and value"),
                    _ => Ok(types.iter().enumerate().map(|(i, _)| types[i % 2].clone()).collect()),
                },
                |types| Ok(map_type(&types[0], &types[1])),
                of,
            ),
        },
        FunctionDef {
            sql_names: &["map_set"],
            vpl_names: &["set"],
            summary: "map_set(map, key, value): the map with this entry added or replaced",
            udf: function(
                "map_set",
                |types| {
                    arity("map_set", types, 3)?;
                    let (key, value) = entry_types("map_set", &types[0])?;
                    Ok(vec![types[0].clone(), key, value])
                },
                |types| Ok(types[0].clone()),
                set,
            ),
        },
        FunctionDef {
            sql_names: &["map_key_list"],
            vpl_names: &["keys"],
            summary: "map_key_list(map): its keys in order",
            udf: function(
                "map_key_list",
                one_map,
                |t| Ok(list_type(&entry_types("map_key_list", &t[0])?.0)),
                |args| column(args, 0),
            ),
        },
        FunctionDef {
            sql_names: &["map_value_list"],
            vpl_names: &["values"],
            summary: "map_value_list(map): its values in the order of its keys",
            udf: function(
                "map_value_list",
                one_map,
                |t| Ok(list_type(&entry_types("map_value_list", &t[0])?.1)),
                |args| column(args, 1),
            ),
        },
    ]
}

fn map_and_key(types: &[DataType]) -> Result<Vec<DataType>> {
    arity("the function", types, 2)?;
    Ok(vec![types[0].clone(), entry_types("the function", &types[0])?.0])
}

fn one_map(types: &[DataType]) -> Result<Vec<DataType>> {
    arity("the function", types, 1)?;
    entry_types("the function", &types[0])?;
    Ok(types.to_vec())
}

fn list_type(item: &DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item.clone(), true)))
}

/// The Arrow type of a map, as `ColumnType::Map` has it.
fn map_type(key: &DataType, value: &DataType) -> DataType {
    let fields =
        vec![Field::new("key", key.clone(), false), Field::new("value", value.clone(), true)];
    let entries = Field::new("entries", DataType::Struct(fields.into()), false);
    DataType::Map(Arc::new(entries), false)
}

/// For each row the place of the entry with the row's key.
fn places(map: &MapArray, key: &ArrayRef) -> Result<Vec<Option<u64>>> {
    let offsets = map.value_offsets();
    let (mut rows, mut entries) = (Vec::new(), Vec::new());
    for i in (0..map.len()).filter(|i| map.is_valid(*i) && key.is_valid(*i)) {
        let range = offsets[i] as u64..offsets[i + 1] as u64;
        rows.extend(std::iter::repeat_n(i as u64, range.clone().count()));
        entries.extend(range);
    }
    let mut found = vec![None; map.len()];
    let wanted = take(key, &UInt64Array::from(rows.clone()), None)?;
    let keys = take(map.keys(), &UInt64Array::from(entries.clone()), None)?;
    let equal: BooleanArray = cmp::eq(&keys, &wanted)?;
    for p in 0..rows.len() {
        if equal.is_valid(p) && equal.value(p) {
            found[rows[p] as usize] = Some(entries[p]);
        }
    }
    Ok(found)
}

fn get(args: &[ArrayRef]) -> Result<ArrayRef> {
    let map = args[0].as_map();
    let places: UInt64Array = places(map, &args[1])?.into_iter().collect();
    Ok(take(map.values(), &places, None)?)
}

fn has(args: &[ArrayRef]) -> Result<ArrayRef> {
    let map = args[0].as_map();
    let found = places(map, &args[1])?;
    let has: BooleanArray = (0..map.len())
        .map(|i| (map.is_valid(i) && args[1].is_valid(i)).then(|| found[i].is_some()))
        .collect();
    Ok(Arc::new(has))
}

fn build(
    map_type: &DataType,
    keys: ArrayRef,
    values: ArrayRef,
    offsets: OffsetBuffer<i32>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let DataType::Map(entries, ordered) = map_type else {
        return exec_err!("{map_type} is not a map type");
    };
    let DataType::Struct(fields) = entries.data_type() else {
        return exec_err!("{map_type} is not a map type");
    };
    let columns = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
    Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, columns, nulls, *ordered)?))
}

fn of(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (rows, entries) = (args[0].len(), args.len() / 2);
    let side = |first: usize| -> Result<ArrayRef> {
        let columns: Vec<&dyn Array> =
            args.iter().skip(first).step_by(2).map(AsRef::as_ref).collect();
        let picks: Vec<(usize, usize)> =
            (0..rows).flat_map(|row| (0..entries).map(move |e| (e, row))).collect();
        Ok(interleave(&columns, &picks)?)
    };
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(entries, rows));
    let (keys, values) = (side(0)?, side(1)?);
    if keys.null_count() > 0 {
        return exec_err!("the key of a map cannot be null");
    }
    build(&map_type(keys.data_type(), values.data_type()), keys, values, offsets, None)
}

fn set(args: &[ArrayRef]) -> Result<ArrayRef> {
    let map = args[0].as_map();
    let found = places(map, &args[1])?;
    let nulls = NullBuffer::union(map.nulls(), args[1].nulls());
    let offsets = map.value_offsets();
    let (mut keys, mut values, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..map.len() {
        if nulls.as_ref().is_some_and(|n| n.is_null(i)) {
            lengths.push(0);
            continue;
        }
        let range = offsets[i] as usize..offsets[i + 1] as usize;
        for p in range.clone() {
            keys.push((0, p));
            values.push(if found[i] == Some(p as u64) { (1, i) } else { (0, p) });
        }
        if found[i].is_none() {
            keys.push((1, i));
            values.push((1, i));
        }
        lengths.push(range.len() + usize::from(found[i].is_none()));
    }
    let keys = interleave(&[map.keys().as_ref(), args[1].as_ref()], &keys)?;
    let values = interleave(&[map.values().as_ref(), args[2].as_ref()], &values)?;
    build(map.data_type(), keys, values, OffsetBuffer::from_lengths(lengths), nulls)
}

fn column(args: &[ArrayRef], which: usize) -> Result<ArrayRef> {
    let map = args[0].as_map();
    let values = if which == 0 { map.keys() } else { map.values() };
    let field = Arc::new(Field::new("item", values.data_type().clone(), true));
    let offsets = map.offsets().clone();
    Ok(Arc::new(ListArray::try_new(field, offsets, Arc::clone(values), map.nulls().cloned())?))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringViewArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn text(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringViewArray::from(values.to_vec()))
    }

    fn ints(values: &[Option<i64>]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    /// Rows {a: 1, b: 2}, {a: 5, b: 6}.
    fn sample() -> ArrayRef {
        let (a, b) = (text(&[Some("a"); 2]), text(&[Some("b"); 2]));
        of(&[a, ints(&[Some(1), Some(5)]), b, ints(&[Some(2), Some(6)])]).unwrap()
    }

    #[test]
    fn a_missing_key_is_null() {
        let got = get(&[sample(), text(&[Some("b"), Some("zz")])]).unwrap();
        assert_eq!(&got, &ints(&[Some(2), None]));
        let got = has(&[sample(), text(&[Some("zz"), None])]).unwrap();
        assert_eq!(got.as_boolean(), &BooleanArray::from(vec![Some(false), None]));
    }

    #[test]
    fn set_replaces_in_place_or_appends() {
        let set =
            set(&[sample(), text(&[Some("a"), Some("c")]), ints(&[Some(9), Some(7)])]).unwrap();
        let values = column(&[Arc::clone(&set)], 1).unwrap();
        let row = |i: usize| {
            values.as_list::<i32>().value(i).as_primitive::<Int64Type>().values().to_vec()
        };
        assert_eq!((row(0), row(1)), (vec![9, 2], vec![5, 6, 7]));
        assert_eq!(set.data_type(), sample().data_type());
    }

    #[test]
    fn sliced_maps_keep_their_rows() {
        let got = get(&[sample().slice(1, 1), text(&[Some("a")])]).unwrap();
        assert_eq!(&got, &ints(&[Some(5)]));
    }
}
