//! The stable rank of a patch's changes: whether a matrix changes along a few directions, as by a merged adapter, or along all of them.

use super::check_base;
use super::content::{Content, Move};
use crate::apply::Edit;
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::error::Error;
use crate::format::tensor_table::TensorEntry;
use crate::random::Numbers;
use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;
use serde::Serialize;

/// The name of the operation in errors.
const VERB: &str = "measuring ranks";
/// The largest number of iterations. Each makes two passes over the matrix.
const STEPS: usize = 64;
/// A residual norm that is at most this share of the largest diagonal element counts as 0: then the matrix has no directions left.
const NOTHING_LEFT: f64 = 1e-13;

/// The change of one matrix.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spectrum {
    /// The matrix's name.
    pub tensor: String,
    /// Its rows.
    pub rows: u64,
    /// Its columns.
    pub columns: u64,
    /// The squared Frobenius norm of the change by its squared spectral norm: at least 1, at most the rank (Rudelson and Vershynin
    /// 2007). Where many singular values are nearly as large as the largest, a little too high.
    pub stable_rank: f64,
}

/// The stable ranks of the changed matrices, in the order of their names. Leaves out tensors that are no matrices or no floats, and
/// matrices with a change that is not finite or with no change in value.
///
/// A patch that is not portable needs its base. Memory: 56 bytes for each selected weight of the tensors in work. Time: up to
/// 2 × 64 multiplications for each.
///
/// # Errors
/// [`crate::error::Obstacle::NeedsBase`], [`crate::error::Obstacle::Unpruned`]; a base that does not fit.
pub fn spectrum(edit: &Edit, base: Option<&Checkpoint>, context: &Context<'_>) -> Result<Vec<Spectrum>, Error> {
    check_base(edit, VERB, base, context)?;
    let is_matrix = |entry: &&TensorEntry| entry.shape.len() == 2 && entry.dtype.float().is_some();
    let matrices: Vec<&TensorEntry> = edit.patch.table().tensors.iter().filter(is_matrix).collect();
    context.count("measuring ranks", matrices.len() as u64);
    let measure = |entry: &&TensorEntry| {
        let content = Content::read(edit, entry, VERB, base)?;
        let moves = content.moves(edit, VERB, &entry.name)?;
        let (rows, columns) = (entry.shape[0], entry.shape[1]);
        let is_finite = moves.iter().all(|moved| moved.delta.is_finite());
        let stable_rank = is_finite.then(|| Sparse::new(rows, columns, &moves).stable_rank()).flatten();
        context.advance(1)?;
        Ok(stable_rank.map(|stable_rank| Spectrum { tensor: entry.name.clone(), rows, columns, stable_rank }))
    };
    let found = matrices.par_iter().map(measure).collect::<Result<Vec<_>, Error>>();
    let found = base.map_or(Ok(()), Checkpoint::unchanged).map_err(Error::from).and(found)?;
    Ok(found.into_iter().flatten().collect())
}

/// The rows or the columns of a matrix: all of them, or only those with elements if most have none. Leaving out empty ones changes no
/// singular value, and keeps vectors short.
enum Lines {
    All(u64),
    Used(Vec<u64>),
}

impl Lines {
    fn of(all: u64, with_elements: impl Iterator<Item = u64> + Clone) -> Self {
        if all <= with_elements.clone().count() as u64 {
            return Self::All(all);
        }
        let mut lines: Vec<u64> = with_elements.collect();
        lines.sort_unstable();
        lines.dedup();
        Self::Used(lines)
    }

    fn count(&self) -> usize {
        match self {
            Self::All(all) => *all as usize,
            Self::Used(lines) => lines.len(),
        }
    }

    /// The index that a line with elements has in the smaller matrix.
    fn place(&self, line: u64) -> usize {
        match self {
            Self::All(_) => line as usize,
            Self::Used(lines) => lines.partition_point(|other| *other < line),
        }
    }
}

/// A sparse matrix.
struct Sparse {
    rows: usize,
    columns: usize,
    /// Row, column and value of the elements that are not 0.
    elements: Vec<(u32, u32, f64)>,
}

impl Sparse {
    fn new(rows: u64, columns: u64, moves: &[Move]) -> Self {
        let changed = moves.iter().filter(|moved| moved.delta != 0.0);
        let (row, column) = (|moved: &Move| moved.index / columns, |moved: &Move| moved.index % columns);
        let rows = Lines::of(rows, changed.clone().map(row));
        let columns = Lines::of(columns, changed.clone().map(column));
        // Exact divisions by the largest change keep squares in range, whatever the dtype.
        let largest = changed.clone().map(|moved| moved.delta.abs()).fold(0.0, f64::max);
        let element =
            |moved: &Move| (rows.place(row(moved)) as u32, columns.place(column(moved)) as u32, moved.delta / largest);
        let elements = changed.map(element).collect();
        Self { rows: rows.count(), columns: columns.count(), elements }
    }

    /// The squared Frobenius norm divided by the squared spectral norm; `None` for a matrix of zeros.
    fn stable_rank(&self) -> Option<f64> {
        if self.elements.is_empty() {
            return None;
        }
        let squares: f64 = self.elements.iter().map(|(_, _, value)| value * value).sum();
        // Rounding can give a little less than 1.
        Some((squares / self.spectral_norm().powi(2)).max(1.0))
    }

    /// The largest singular value, from below: the Lanczos iteration for the matrix times its transpose (Golub and Van Loan 2013, 10.1,
    /// 10.4), with all vectors kept orthogonal. It begins at a random vector, the same for every matrix of this shape.
    fn spectral_norm(&self) -> f64 {
        let mut random = Numbers::new(0);
        let steps = STEPS.min(self.rows).min(self.columns);
        let mut basis: Vec<DVector<f64>> = Vec::with_capacity(steps);
        // Of the rows' space, in which all others are: as many as the rank are enough.
        let mut next = self.transposed_times(&DVector::from_fn(self.rows, |_, _| random.unit() - 0.5)).normalize();
        // The matrix in that basis is tridiagonal.
        let (mut diagonal, mut beside) = (Vec::new(), Vec::new());
        loop {
            let image = self.times(&next);
            diagonal.push(image.norm_squared());
            let mut residual = self.transposed_times(&image);
            basis.push(next);
            // Once leaves what rounding brings back; twice is enough (Parlett 1998, 6.9).
            for vector in basis.iter().chain(&basis) {
                residual.axpy(-vector.dot(&residual), vector, 1.0);
            }
            let norm = residual.norm();
            if basis.len() == steps || norm <= NOTHING_LEFT * diagonal.iter().fold(0.0, |a, b| b.max(a)) {
                let of_basis = DMatrix::from_fn(basis.len(), basis.len(), |row, column| match row.abs_diff(column) {
                    0 => diagonal[row],
                    1 => beside[row.min(column)],
                    _ => 0.0,
                });
                return of_basis.symmetric_eigenvalues().max().sqrt();
            }
            beside.push(norm);
            next = residual / norm;
        }
    }

    fn times(&self, vector: &DVector<f64>) -> DVector<f64> {
        let mut product = DVector::zeros(self.rows);
        self.elements
            .iter()
            .for_each(|(row, column, value)| product[*row as usize] += value * vector[*column as usize]);
        product
    }

    fn transposed_times(&self, vector: &DVector<f64>) -> DVector<f64> {
        let mut product = DVector::zeros(self.columns);
        self.elements
            .iter()
            .for_each(|(row, column, value)| product[*column as usize] += value * vector[*row as usize]);
        product
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, columns: usize, value: impl Fn(usize, usize) -> f64) -> Sparse {
        let index = |at: usize| Move {
            index: at as u64,
            base: 0,
            in_base: true,
            delta: value(at / columns, at % columns),
            reference: None,
        };
        Sparse::new(rows as u64, columns as u64, &(0..rows * columns).map(index).collect::<Vec<_>>())
    }

    /// By the library's own decomposition of the whole matrix.
    fn expected(matrix: &Sparse) -> f64 {
        let mut whole = DMatrix::zeros(matrix.rows, matrix.columns);
        matrix.elements.iter().for_each(|(row, column, value)| whole[(*row as usize, *column as usize)] = *value);
        let values = whole.singular_values();
        values.iter().map(|value| value * value).sum::<f64>() / values.max().powi(2)
    }

    #[test]
    fn is_that_of_a_whole_decomposition() {
        let mut random = Numbers::new(7);
        for (rows, columns, rank) in
            [(40, 60, 2), (60, 40, 16), (1, 30, 1), (30, 1, 1), (5, 7, 5), (64, 64, 64), (200, 3, 3)]
        {
            let mut factor = |n: usize| (0..n).map(|_| random.unit() - 0.5).collect::<Vec<f64>>();
            let (left, right) = (factor(rows * rank), factor(columns * rank));
            let made = matrix(rows, columns, |row, column| {
                (0..rank).map(|at| left[row * rank + at] * right[column * rank + at]).sum()
            });
            let (found, expected) = (made.stable_rank().unwrap(), expected(&made));
            assert!((found / expected - 1.0).abs() < 2e-3, "{rows} x {columns}, {rank}: {found}, not {expected}");
        }
    }

    #[test]
    fn a_matrix_is_as_large_as_what_changes_in_it() {
        let columns = 1 << 40;
        let at = |row: u64, column: u64, delta: f64| Move {
            index: row * columns + column,
            base: 0,
            in_base: true,
            delta,
            reference: None,
        };
        let corners = [at(0, 0, 1.0), at(0, columns - 1, 2.0), at(7, 5, 0.0), at(1 << 20, 0, 3.0)];
        let made = Sparse::new(1 << 21, columns, &corners);
        assert_eq!((made.rows, made.columns), (2, 2));
        let (found, expected) = (made.stable_rank().unwrap(), expected(&made));
        assert!((found - expected).abs() < 1e-3, "{found}, not {expected}");
    }

    /// One singular value of 1, the others a little smaller: the first steps see only those.
    #[test]
    fn the_largest_of_many_that_are_nearly_as_large_is_found() {
        for close in [0.96, 0.97, 0.985] {
            let mut random = Numbers::new(5);
            let mut orthogonal = |n: usize| DMatrix::from_fn(n, n, |_, _| random.unit() - 0.5).qr().q();
            let (left, right) = (orthogonal(200), orthogonal(200));
            let values = DVector::from_fn(200, |at, _| if at == 7 { 1.0 } else { close });
            let whole = left * DMatrix::from_diagonal(&values) * right;
            let made = matrix(200, 200, |row, column| whole[(row, column)]);
            let (found, expected) = (made.stable_rank().unwrap(), values.norm_squared());
            assert!((found / expected - 1.0).abs() < 5e-3, "{close}: {found}, not {expected}");
        }
    }

    #[test]
    fn one_weight_equal_weights_and_none() {
        assert_eq!(matrix(9, 9, |row, column| f64::from(row == 3 && column == 4) * 1e-300).stable_rank(), Some(1.0));
        // The identity: as many directions as there are, none larger than another.
        let identity = matrix(50, 50, |row, column| if row == column { 1e200 } else { 0.0 }).stable_rank().unwrap();
        assert!((identity - 50.0).abs() < 1e-6, "{identity}");
        assert_eq!(matrix(4, 4, |_, _| 0.0).stable_rank(), None);
    }
}
