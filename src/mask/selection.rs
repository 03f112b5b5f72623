//! The localization mask b as ascending positions, block by block.

/// The selected elements of one block. Takes 4 bytes for each, and twice its width where it holds its bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectedBlock {
    /// The tensor's place in its pair.
    pub tensor: usize,
    /// The block's index in the tensor.
    pub index: u64,
    /// Positions in the block, ascending, at least one.
    pub positions: Vec<u32>,
    /// What is at these positions, if whoever selected them kept it.
    pub bits: Option<PairBits>,
}

/// Elements of target and reference, little-endian, in the target's dtype.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PairBits {
    /// Of the target.
    pub target: Vec<u8>,
    /// Of the reference.
    pub reference: Vec<u8>,
}

/// Selected elements, by tensor and block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Blocks with a selected element, ascending by tensor and index.
    pub blocks: Vec<SelectedBlock>,
}

impl Selection {
    /// Selected elements.
    pub fn len(&self) -> u64 {
        self.blocks.iter().map(|block| block.positions.len() as u64).sum()
    }

    /// Whether nothing is selected.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}
