//! Transposes matrices, tile by tile, so that both stay in the cache.

use lcepatch_files::checkpoint::Tensor;
use lcepatch_files::context::{Cancelled, Context};
use lcepatch_format::dtype::Width;

/// Rows and columns of a tile.
const TILE: usize = 64;

/// `[rows, columns]` of a 2-D tensor with at least two of each. With one row or column the transpose has the same bytes.
pub fn matrix(shape: &[u64]) -> Option<[u64; 2]> {
    match *shape {
        [rows, columns] if rows >= 2 && columns >= 2 => Some([rows, columns]),
        _ => None,
    }
}

/// The transpose of a `[rows, columns]` matrix whose elements are `bytes`.
///
/// # Panics
/// If there are fewer bytes than elements.
pub fn transpose(bytes: &[u8], [rows, columns]: [u64; 2], width: Width) -> Vec<u8> {
    let (rows, columns) = (rows as usize, columns as usize);
    let mut out = vec![0; rows * columns * width.bytes()];
    for (top, left) in tiles(rows, columns) {
        for row in top..rows.min(top + TILE) {
            for column in left..columns.min(left + TILE) {
                width.store(&mut out, column * rows + row, width.load(bytes, row * columns + column));
            }
        }
    }
    out
}

/// Whether `first`, of shape `[rows, columns]`, is the transpose of `second`.
pub(super) fn is_transpose(
    first: Tensor<'_>,
    second: Tensor<'_>,
    [rows, columns]: [u64; 2],
    context: &Context<'_>,
) -> Result<bool, Cancelled> {
    let (n, width) = (rows * columns, first.info.dtype.width());
    let (a, b) = (first.elements(0..n), second.elements(0..n));
    let (rows, columns) = (rows as usize, columns as usize);
    let mut same = true;
    for (top, left) in tiles(rows, columns) {
        same = (top..rows.min(top + TILE)).all(|row| {
            (left..columns.min(left + TILE))
                .all(|column| width.load(a, row * columns + column) == width.load(b, column * rows + row))
        });
        if left == 0 {
            context.advance(0)?;
        }
        if !same {
            break;
        }
    }
    first.release(0..n);
    second.release(0..n);
    Ok(same)
}

/// The top left corners of all tiles.
fn tiles(rows: usize, columns: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).step_by(TILE).flat_map(move |top| (0..columns).step_by(TILE).map(move |left| (top, left)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_finds_its_place_and_back() {
        for (rows, columns) in [(2, 2), (3, 5), (64, 64), (70, 131), (131, 1)] {
            for width in [Width::W1, Width::W2, Width::W4, Width::W8] {
                let mut bytes = vec![0; rows * columns * width.bytes()];
                (0..rows * columns).for_each(|at| width.store(&mut bytes, at, at as u64 * 31));
                let shape = [rows as u64, columns as u64];
                let transposed = transpose(&bytes, shape, width);
                assert_eq!(width.load(&transposed, 1), width.load(&bytes, columns.min(rows * columns - 1)));
                assert_eq!(transpose(&transposed, [shape[1], shape[0]], width), bytes);
            }
        }
    }
}
