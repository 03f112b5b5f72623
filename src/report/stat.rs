//! Counts of the selected weights of a patch, by component, layer and tensor. Only the header is read.

use crate::checkpoint::names::place;
use crate::format::tensor_table::TensorEntry;
use crate::patch::Patch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The counts of a patch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stat {
    /// The patch id, in hexadecimal.
    pub id: String,
    /// Bytes of the patch.
    pub file_bytes: u64,
    /// Bytes of its header.
    pub header_bytes: u64,
    /// Elements of the base, all tensors; 0 if the patch does not say.
    pub base_elements: u64,
    /// Bytes of the base's files.
    pub base_bytes: u64,
    /// Selected elements.
    pub selected: u64,
    /// Selection by component, in the order of a transformer block.
    pub components: Vec<Row>,
    /// Selection by layer, in order.
    pub layers: Vec<Row>,
    /// Selection by layer and component.
    pub cells: Vec<Cell>,
    /// Selection by tensor, in order of names.
    pub tensors: Vec<TensorRow>,
}

/// A component or a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Row {
    /// Its name.
    pub label: String,
    /// Selected elements.
    pub selected: u64,
    /// Candidate elements.
    pub elements: u64,
    /// Mean |reference - base| over the selected elements.
    pub mean_delta: Option<f64>,
    /// Largest |reference - base|.
    pub max_delta: Option<f64>,
}

/// One component in one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Cell {
    /// The layer's label.
    pub layer: String,
    /// The component's label.
    pub component: String,
    /// Selected elements.
    pub selected: u64,
    /// Elements of the tensors that have a selected one.
    pub elements: u64,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TensorRow {
    /// Its name.
    pub name: String,
    /// Its dtype.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Selected elements.
    pub selected: u64,
    /// Elements.
    pub elements: u64,
    /// Bytes in the patch.
    pub bytes: u64,
    /// BLAKE3 of its bytes in the base.
    pub base_digest: String,
    /// Mean |reference - base| over the selected elements.
    pub mean_delta: Option<f64>,
    /// Largest |reference - base|.
    pub max_delta: Option<f64>,
}

#[derive(Default)]
struct Sum {
    selected: u64,
    elements: u64,
    delta_sum: f64,
    delta_max: Option<f64>,
}

impl Sum {
    fn add(&mut self, tensor: &TensorEntry) {
        self.selected += tensor.selected;
        self.elements += tensor.elements();
        if let Some(statistics) = tensor.statistics {
            self.delta_sum += f64::from(statistics.mean) * tensor.selected as f64;
            self.delta_max = Some(self.delta_max.unwrap_or(0.0).max(statistics.max.into()));
        }
    }

    fn row(self, label: String, candidates: Option<u64>) -> Row {
        Row {
            label,
            selected: self.selected,
            elements: candidates.unwrap_or(self.elements),
            mean_delta: self.delta_max.map(|_| self.delta_sum / self.selected as f64),
            max_delta: self.delta_max,
        }
    }
}

impl Stat {
    /// Counts the selected weights of a patch.
    pub fn new(patch: &Patch) -> Self {
        let metadata = patch.metadata();
        let (mut components, mut layers) = (BTreeMap::<_, Sum>::new(), BTreeMap::<_, Sum>::new());
        let mut cells = BTreeMap::<_, Sum>::new();
        for tensor in &patch.table().tensors {
            let place = place(&tensor.name);
            components.entry(place.component).or_default().add(tensor);
            layers.entry(place.layer).or_default().add(tensor);
            cells.entry((place.layer, place.component)).or_default().add(tensor);
        }
        let candidates = &metadata.candidates;
        let components = components.into_iter().map(|(component, sum)| {
            let label = component.label().to_owned();
            let elements = candidates.by_component.get(&label).copied();
            sum.row(label, elements)
        });
        let layers = layers.into_iter().map(|(layer, sum)| {
            let label = crate::checkpoint::names::layer_label(layer);
            let elements = candidates.by_layer.get(&label).copied();
            sum.row(label, elements)
        });
        let cells = cells.into_iter().map(|((layer, component), sum)| Cell {
            layer: crate::checkpoint::names::layer_label(layer),
            component: component.label().to_owned(),
            selected: sum.selected,
            elements: sum.elements,
        });
        Self {
            id: patch.id().to_string(),
            file_bytes: patch.file_bytes(),
            header_bytes: patch.header_bytes(),
            base_elements: metadata.base.elements,
            base_bytes: metadata.base.files.iter().fold(0, |all, file| all.saturating_add(file.bytes)),
            selected: patch.table().tensors.iter().map(|tensor| tensor.selected).sum(),
            components: components.collect(),
            layers: layers.collect(),
            cells: cells.collect(),
            tensors: patch.table().tensors.iter().map(tensor_row).collect(),
        }
    }
}

fn tensor_row(tensor: &TensorEntry) -> TensorRow {
    TensorRow {
        name: tensor.name.clone(),
        dtype: tensor.dtype.name().to_owned(),
        shape: tensor.shape.clone(),
        selected: tensor.selected,
        elements: tensor.elements(),
        bytes: tensor.blocks.iter().map(|block| block.bytes).sum(),
        base_digest: tensor.base_digest.to_string(),
        mean_delta: tensor.statistics.map(|s| s.mean.into()),
        max_delta: tensor.statistics.map(|s| s.max.into()),
    }
}
