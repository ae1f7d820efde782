//! The tables of its base that PEFT saves along with A and B of a table, compared with those of the
//! base in use: PEFT would load the former, as where tokens were added in unused rows.

use std::path::Path;

use super::contents::BASE_LAYER;
use super::parameters::{of_table, path_of_peft_name};
use super::peft::ADAPTER_FILE;
use super::store::read_matrices;
use super::{Adapter, LoraError};
use crate::model::Table;

/// Rows that are farther apart than this share of their length are different rows; rounding to
/// blocks of two bits moves a row by less.
const FARTHEST: f32 = 0.5;

/// Refuses an adapter's folder that holds a table of another base than the one in use, of which
/// `row` writes a row, `[H]`. Only the file of an adapter with A and B of a table is read.
///
/// # Errors
/// [`LoraError::OtherBaseTable`]; or if the file cannot be read.
pub fn check_base_tables(
    folder: &Path,
    adapter: &Adapter,
    row: impl Fn(Table, usize, &mut [f32]),
) -> Result<(), LoraError> {
    if adapter.tables().all(|table| table.whole().is_some()) {
        return Ok(());
    }
    let path = folder.join(ADAPTER_FILE);
    for (name, saved) in read_matrices(&path)?.0 {
        let Some((table, BASE_LAYER)) = path_of_peft_name(&name).and_then(of_table) else {
            continue;
        };
        let columns = saved.shape[1];
        let mut own = vec![0.0; columns];
        for (index, saved) in saved.values.chunks_exact(columns).enumerate() {
            row(table, index, &mut own);
            if are_apart(saved, &own) {
                return Err(LoraError::OtherBaseTable {
                    path,
                    name,
                    row: index,
                });
            }
        }
    }
    Ok(())
}

/// Whether two rows are different, and not one row in two roundings.
fn are_apart(one: &[f32], other: &[f32]) -> bool {
    let length = |squares: f32| squares.sqrt();
    let distance: f32 = one.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum();
    let own: f32 = other.iter().map(|x| x * x).sum();
    length(distance) > FARTHEST * length(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rounded_row_is_the_same_row_and_a_new_one_is_not() {
        let row = [0.31, -0.72, 0.05, 0.44];
        assert!(!are_apart(&row, &row));
        assert!(!are_apart(&[0.25, -0.75, 0.0, 0.5], &row));
        assert!(are_apart(&[0.44, 0.31, -0.72, 0.05], &row));
        assert!(are_apart(&[0.0; 4], &row));
        assert!(!are_apart(&[0.0; 4], &[0.0; 4]));
    }
}
