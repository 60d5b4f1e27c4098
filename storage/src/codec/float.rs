//! Doubles: most measured values are decimals of few digits, which are integers over a power of
//! ten (the observation of ALP, Afroozeh and Boncz, SIGMOD 2023).
//!
//! ```text
//! u8   scheme  0: raw, 1: decimal
//! raw:         n x 8 bytes, IEEE 754, little-endian
//! decimal: u8  exponent e
//!          u32 number of exceptions
//!          integers m[n] as in `int`: value i is m[i] / 10^e
//!          exceptions: u32 row, 8 bytes value (these rows' m is of no meaning)
//! ```
//!
//! A value is an exception unless the division gives back exactly its bits, so the sign of zero
//! and the payload of a NaN survive.

use crate::codec::int;
use crate::codec::wire::Reader;
use crate::error::{Result, StorageError};

const RAW: u8 = 0;
const DECIMAL: u8 = 1;
const POWERS: [f64; 10] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// 1.5 x 2^52: added to a double below 2^51 it leaves the nearest integer in the low bits.
const ROUNDER: f64 = 6_755_399_441_055_744.0;
const LIMIT: f64 = 2_251_799_813_685_248.0;

/// Appends the values.
pub(crate) fn encode(values: &[f64], out: &mut Vec<u8>) {
    let start = out.len();
    if let Some(exponent) = exponent_of(values)
        && encode_decimal(values, exponent, out)
        && out.len() - start < values.len() * 8
    {
        return;
    }
    out.truncate(start);
    out.push(RAW);
    out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
}

fn integer(value: f64, power: f64) -> i64 {
    let scaled = value * power;
    (scaled + ROUNDER).to_bits().wrapping_sub(ROUNDER.to_bits()) as i64
}

fn fits(value: f64, integer: i64, power: f64) -> bool {
    (integer as f64 / power).to_bits() == value.to_bits() && (value * power).abs() < LIMIT
}

/// The smallest exponent that suits a sample of the values.
fn exponent_of(values: &[f64]) -> Option<u8> {
    let step = (values.len() / 128).max(1);
    let sample = || values.iter().step_by(step);
    let enough = sample().count() - sample().count() / 16;
    (0..POWERS.len()).find_map(|e| {
        let power = POWERS[e];
        let good = sample().filter(|&&v| fits(v, integer(v, power), power)).count();
        (good > 0 && good >= enough).then_some(e as u8)
    })
}

fn encode_decimal(values: &[f64], exponent: u8, out: &mut Vec<u8>) -> bool {
    let power = POWERS[usize::from(exponent)];
    let mut integers: Vec<i64> = values.iter().map(|&v| integer(v, power)).collect();
    let mut exceptions = Vec::new();
    let limit = values.len() / 16 + 1;
    for (block, (values, integers)) in
        values.chunks(1024).zip(integers.chunks_mut(1024)).enumerate()
    {
        let good = values.iter().zip(&*integers).filter(|(v, n)| fits(**v, **n, power)).count();
        if good == values.len() {
            continue;
        }
        let mut last = 0;
        for (row, (&value, integer)) in values.iter().zip(integers).enumerate() {
            if fits(value, *integer, power) {
                last = *integer;
            } else {
                exceptions.push(((block * 1024 + row) as u32, value));
                *integer = last;
            }
        }
        if exceptions.len() > limit {
            return false;
        }
    }
    out.push(DECIMAL);
    out.push(exponent);
    out.extend_from_slice(&(exceptions.len() as u32).to_le_bytes());
    int::encode(&integers, out);
    for (row, value) in exceptions {
        out.extend_from_slice(&row.to_le_bytes());
        out.extend_from_slice(&value.to_le_bytes());
    }
    true
}

/// Reads `len` values.
pub(crate) fn decode(reader: &mut Reader<'_>, len: usize) -> Result<Vec<f64>> {
    match reader.u8()? {
        RAW => {
            let bytes = reader.bytes(len * 8)?.as_chunks::<8>().0;
            Ok(bytes.iter().map(|b| f64::from_le_bytes(*b)).collect())
        }
        DECIMAL => {
            let exponent = usize::from(reader.u8()?);
            let power = *POWERS.get(exponent).ok_or_else(damaged)?;
            let exceptions = reader.u32()?;
            let integers = int::decode(reader, len)?;
            let mut values: Vec<f64> = integers.iter().map(|&n| n as f64 / power).collect();
            for _ in 0..exceptions {
                let row = reader.u32()? as usize;
                let value = f64::from_bits(reader.u64()?);
                *values.get_mut(row).ok_or_else(damaged)? = value;
            }
            Ok(values)
        }
        _ => Err(damaged()),
    }
}

fn damaged() -> StorageError {
    StorageError::Corrupted("doubles: unknown scheme, exponent or row".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[f64], at_most: usize) {
        let mut bytes = Vec::new();
        encode(values, &mut bytes);
        assert!(bytes.len() <= at_most, "{} bytes for {} values", bytes.len(), values.len());
        let again = decode(&mut Reader::new(&bytes), values.len()).unwrap();
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&again), bits(values));
    }

    #[test]
    fn decimals_take_few_bits() {
        let prices: Vec<f64> = (0..4096).map(|i| f64::from(i * 7919 % 100_000) / 100.0).collect();
        check(&prices, 6 + 4 * (10 + 17 * 128));
        check(&[1.5; 3000], 60);
    }

    #[test]
    fn every_bit_pattern_survives() {
        let nan = f64::from_bits(0x7FF8_0000_DEAD_BEEF);
        check(&[], 6);
        check(&[0.0, -0.0, nan, f64::INFINITY, f64::MIN, f64::MAX, 5e-324, 1.0, 0.1], 90);
        let mut mixed: Vec<f64> = (0..3000).map(|i| f64::from(i) / 10.0).collect();
        mixed[17] = nan;
        mixed[2999] = -0.0;
        mixed[1024] = 1e300;
        check(&mixed, 8000);
        let wild: Vec<f64> = (0..3000).map(|i| f64::from(i).sqrt()).collect();
        check(&wild, 24_001);
    }
}
