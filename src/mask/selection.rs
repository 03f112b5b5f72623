//! The localization mask b (paper eq 1 and 2) as ascending positions, block by block.

use crate::format::block::BlockId;

/// The selected elements of one block. Takes 4 bytes for each element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectedBlock {
    /// The tensor's index in its pair.
    pub tensor: usize,
    /// The block's index in the tensor.
    pub index: u64,
    /// Positions in the block, ascending, at least one.
    pub positions: Vec<u32>,
}

impl SelectedBlock {
    /// Which block it is.
    pub fn id(&self) -> BlockId {
        BlockId { tensor: self.tensor, index: self.index }
    }
}

/// Selected elements, by tensor and block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Blocks with a selected element, ascending by tensor and index.
    pub blocks: Vec<SelectedBlock>,
}

impl Selection {
    /// The number of selected elements.
    pub fn len(&self) -> u64 {
        self.blocks.iter().map(|block| block.positions.len() as u64).sum()
    }

    /// Whether nothing is selected.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}
