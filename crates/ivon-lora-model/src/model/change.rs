//! What a converter did to the numbers of a tensor before it stored them; reading undoes it.

/// How a stored tensor differs from that of the Hugging Face checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The order of its rows and columns.
    pub order: Order,
    /// What became of each number.
    pub number: NumberChange,
}

/// The order of rows and columns in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// That of the checkpoint.
    #[default]
    Kept,
    /// The two halves of each head of this width are interleaved row by row, as in the q and k
    /// projections of a Llama GGUF.
    Interleaved(usize),
    /// The heads that rows belong to are regrouped.
    Rows(Regrouped),
    /// The heads that columns belong to are regrouped.
    Columns(Regrouped),
}

/// What became of each number x.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NumberChange {
    /// Nothing.
    #[default]
    Kept,
    /// x + 1.
    PlusOne,
    /// −exp(x).
    MinusExp,
}

/// Heads in groups of equal size, of which the file has the first head of every group, then the
/// second of every group, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Regrouped {
    /// The number of rows or columns before the heads, which stay in their places.
    pub first: usize,
    /// The number of groups.
    pub groups: usize,
    /// The number of heads of all groups together.
    pub heads: usize,
    /// The number of rows or columns of a head.
    pub width: usize,
}

impl Change {
    /// One that moves rows or columns.
    pub fn of_order(order: Order) -> Self {
        Self {
            order,
            ..Self::default()
        }
    }

    /// One that changes each number in its place.
    pub fn of_number(number: NumberChange) -> Self {
        Self {
            number,
            ..Self::default()
        }
    }

    /// Whether a tensor with so many rows and columns can have been changed like this.
    pub fn fits(&self, rows: usize, columns: usize) -> bool {
        match self.order {
            Order::Kept => true,
            Order::Interleaved(head) => {
                head >= 2 && head.is_multiple_of(2) && rows.is_multiple_of(head)
            }
            Order::Rows(heads) => heads.fits(rows),
            Order::Columns(heads) => heads.fits(columns),
        }
    }

    /// The position in the file of a row of the checkpoint.
    pub fn stored_row(&self, row: usize) -> usize {
        self.order.stored_row(row)
    }
}

impl Order {
    /// The position in the file of a row of the checkpoint.
    pub fn stored_row(self, row: usize) -> usize {
        match self {
            Self::Kept | Self::Columns(_) => row,
            Self::Interleaved(head) => interleaved(row, head),
            Self::Rows(heads) => heads.stored(row),
        }
    }

    /// The position in the file of a column of the checkpoint.
    pub fn stored_column(self, column: usize) -> usize {
        match self {
            Self::Columns(heads) => heads.stored(column),
            Self::Kept | Self::Interleaved(_) | Self::Rows(_) => column,
        }
    }
}

impl NumberChange {
    /// The number of the checkpoint.
    pub fn undo(self, stored: f32) -> f32 {
        match self {
            Self::Kept => stored,
            Self::PlusOne => stored - 1.0,
            Self::MinusExp => (-stored).ln(),
        }
    }
}

impl Regrouped {
    fn fits(&self, count: usize) -> bool {
        let heads = self.heads.checked_mul(self.width);
        self.groups > 0
            && self.width > 0
            && self.heads.is_multiple_of(self.groups)
            && heads.and_then(|heads| heads.checked_add(self.first)) == Some(count)
    }

    /// The position in the file of a row or column of the checkpoint.
    pub fn stored(&self, index: usize) -> usize {
        let Some(index) = index.checked_sub(self.first) else {
            return index;
        };
        let (head, within) = (index / self.width, index % self.width);
        let group_size = self.heads / self.groups;
        let (group, member) = (head / group_size, head % group_size);
        self.first + (member * self.groups + group) * self.width + within
    }
}

/// llama.cpp's converter turns the halves `[2, d/2]` of each head to pairs `[d/2, 2]`.
fn interleaved(row: usize, head: usize) -> usize {
    let (first, within) = (row / head * head, row % head);
    first + 2 * (within % (head / 2)) + within / (head / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_two_groups_are_stored_the_first_of_both_and_then_the_second_of_both() {
        // llama.cpp: [q, k, a0, a1, b0, b1] of group a and b becomes [q, k, a0, b0, a1, b1].
        let heads = Regrouped {
            first: 2,
            groups: 2,
            heads: 4,
            width: 1,
        };
        let stored: Vec<usize> = (0..6).map(|row| heads.stored(row)).collect();
        assert_eq!(stored, [0, 1, 2, 4, 3, 5]);
        let wide = Regrouped { width: 3, ..heads };
        let stored: Vec<usize> = (2..8).map(|row| wide.stored(row)).collect();
        assert_eq!(stored, [2, 3, 4, 8, 9, 10]);
        let order = Change::of_order(Order::Rows(wide));
        assert!(order.fits(14, 1) && !order.fits(13, 1));
        let none = Order::Columns(Regrouped { groups: 0, ..heads });
        assert!(!Change::of_order(none).fits(1, 6));
    }

    #[test]
    fn numbers_come_back() {
        assert_eq!(NumberChange::PlusOne.undo(1.25), 0.25);
        let log = NumberChange::MinusExp.undo(-(0.5f32.exp()));
        assert!((log - 0.5).abs() < 1e-6);
    }
}
