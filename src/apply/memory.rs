//! Edits of tensors in memory: what changes is computed first, and then exchanged with what is there, so that the same exchange takes it
//! back.

use super::plan::Plan;
use super::rewrite::Rewrite;
use super::tensor::{Changes, SPAN};
use crate::checkpoint::Tensor;
use crate::checkpoint::scan::windows;
use crate::context::{Cancelled, Context};
use crate::digest::Digest;
use crate::dtype::Width;
use crate::error::Error;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;

/// The elements of one tensor that edits change, and their bits on the other side: in the result at first, and after each exchange in
/// what it was exchanged with.
///
/// Memory: 4 bytes and an element for each selected element. Where all of a dense block changes, the block's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    tensor: String,
    width: Width,
    elements: u64,
    /// One for each [`SPAN`] of the tensor's elements.
    parts: Vec<Part>,
}

/// The part of an exchange in one span.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Part {
    /// The elements' places in the span, ascending; None for all of them.
    places: Option<Vec<u32>>,
    bits: Vec<u8>,
}

impl Part {
    fn new(width: Width, changes: Changes) -> Self {
        match changes {
            Changes::All(bits) => Self { places: None, bits },
            Changes::Listed(edits) => {
                let (places, bits): (Vec<u32>, Vec<u64>) = edits.into_iter().unzip();
                let mut bytes = Vec::with_capacity(places.len() * width.bytes());
                width.store_all(&bits, &mut bytes);
                Self { places: Some(places), bits: bytes }
            }
        }
    }

    fn exchange(&mut self, width: Width, span: &mut [u8]) {
        match &self.places {
            None => span.swap_with_slice(&mut self.bits),
            Some(places) => {
                for (at, place) in places.iter().enumerate() {
                    let place = *place as usize;
                    let (there, here) = (width.load(span, place), width.load(&self.bits, at));
                    width.store(span, place, here);
                    width.store(&mut self.bits, at, there);
                }
            }
        }
    }

    /// The digest of the elements of `span` that are exchanged.
    fn digest(&self, width: Width, span: &[u8]) -> Digest {
        let Some(places) = &self.places else { return Digest::of(span) };
        let (mut bits, mut bytes) = (Vec::with_capacity(places.len()), Vec::with_capacity(self.bits.len()));
        width.load_at(span, places.iter().map(|place| *place as usize), &mut bits);
        width.store_all(&bits, &mut bytes);
        Digest::of(&bytes)
    }
}

impl Exchange {
    /// The tensor's name in the base.
    pub fn tensor(&self) -> &str {
        &self.tensor
    }

    /// How many elements are exchanged.
    pub fn len(&self) -> u64 {
        self.parts.iter().map(|part| (part.bits.len() / self.width.bytes()) as u64).sum()
    }

    /// Whether no element is exchanged.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it changes the same elements in the same way as another one, which may be of a tensor with another name.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.width, self.elements, &self.parts) == (other.width, other.elements, &other.parts)
    }

    /// The flat indices of the elements, ascending.
    pub fn positions(&self) -> Vec<u64> {
        let mut positions = Vec::with_capacity(self.len() as usize);
        for (start, part) in (0..).step_by(SPAN as usize).zip(&self.parts) {
            let n = (part.bits.len() / self.width.bytes()) as u64;
            match &part.places {
                Some(places) => positions.extend(places.iter().map(|place| start + u64::from(*place))),
                None => positions.extend(start..start + n),
            }
        }
        positions
    }

    /// The elements' bits on the other side, little-endian, in the order of [`Exchange::positions`].
    pub fn bits(&self) -> Vec<u8> {
        self.parts.iter().flat_map(|part| &part.bits).copied().collect()
    }

    /// The digest of the bits on the other side: that which [`Exchange::digest`] gives once they are exchanged.
    pub fn other_digest(&self) -> Digest {
        let digests: Vec<Digest> = self.parts.par_iter().map(|part| Digest::of(&part.bits)).collect();
        Digest::root(&digests)
    }

    /// Exchanges the elements of the tensor whose bytes are `tensor`, in parallel.
    ///
    /// # Panics
    /// If `tensor` is not as long as the tensor.
    pub fn exchange(&mut self, tensor: &mut [u8]) {
        let width = self.width;
        self.check(tensor);
        let spans = tensor.par_chunks_mut(SPAN as usize * width.bytes());
        spans.zip(&mut self.parts).for_each(|(span, part)| part.exchange(width, span));
    }

    /// The digest of the elements as they are in the tensor whose bytes are `tensor`: a later one tells whether anything has changed
    /// them.
    ///
    /// # Panics
    /// As [`Exchange::exchange`].
    pub fn digest(&self, tensor: &[u8]) -> Digest {
        self.check(tensor);
        let spans = tensor.par_chunks(SPAN as usize * self.width.bytes());
        let digests: Vec<Digest> = spans.zip(&self.parts).map(|(span, part)| part.digest(self.width, span)).collect();
        Digest::root(&digests)
    }

    fn check(&self, tensor: &[u8]) {
        assert_eq!(tensor.len() as u64, self.elements * self.width.bytes() as u64, "{} has another size", self.tensor);
    }
}

impl Plan<'_> {
    /// What changes of every tensor, computed in parallel from the base's bytes. Nothing is written.
    ///
    /// # Errors
    /// [Kind](crate::ErrorKind) `NotFinite`, those of an edit; R18 to R20; cancellation.
    pub fn exchanges(&self, context: &Context<'_>) -> Result<Vec<Exchange>, Error> {
        let base = self.base();
        let tensors: Vec<Tensor<'_>> = self.changed().filter_map(|name| base.tensor(name)).collect();
        let spans: Vec<(Tensor<'_>, Range<u64>)> = tensors
            .iter()
            .flat_map(|tensor| windows(0..tensor.info.elements(), SPAN).map(|span| (*tensor, span)))
            .collect();
        context.begin("editing", tensors.iter().map(|tensor| tensor.info.bytes()).sum());
        let parts = spans.into_par_iter().map(|(tensor, span)| {
            let width = tensor.info.dtype.width();
            context.advance((span.end - span.start) * width.bytes() as u64)?;
            Ok(Part::new(width, self.span_changes(tensor, span)?))
        });
        let mut parts = parts.collect::<Result<Vec<Part>, Error>>()?.into_iter();
        let exchange = |tensor: Tensor<'_>| {
            let (elements, width) = (tensor.info.elements(), tensor.info.dtype.width());
            let parts = parts.by_ref().take(elements.div_ceil(SPAN) as usize).collect();
            Exchange { tensor: tensor.info.name.clone(), width, elements, parts }
        };
        Ok(tensors.into_iter().map(exchange).collect())
    }

    /// Compares the base, once its tensors in memory hold the result, with the digest that the patch declares of it. Returns whether it
    /// declares one: a patch alone, at alpha 1 on its own base, which was checked in full.
    ///
    /// # Errors
    /// [Kind](crate::ErrorKind) `ResultDiffers`; cancellation.
    pub fn check_exchanged(&self, context: &Context<'_>) -> Result<bool, Error> {
        if self.declaring().is_none() {
            return Ok(false);
        }
        let tensors: Vec<Tensor<'_>> = self.changed().filter_map(|name| self.base().tensor(name)).collect();
        context.begin("checking the result", tensors.iter().map(|tensor| tensor.info.bytes()).sum());
        let digests = tensors
            .par_iter()
            .map(|tensor| Ok((tensor.info.name.clone(), tensor.digest(context)?)))
            .collect::<Result<BTreeMap<String, Digest>, Cancelled>>()?;
        self.compare_declared(&digests)
    }
}

#[cfg(test)]
mod tests {
    use crate::apply::{Plan, PlanOptions};
    use crate::checkpoint::Checkpoint;
    use crate::context::Context;
    use crate::dtype::Width;
    use crate::testing::{applied, floats, portable};
    use proptest::prelude::*;

    /// The bytes of the only tensor of a checkpoint.
    fn bytes(checkpoint: &Checkpoint) -> Vec<u8> {
        let tensor = checkpoint.tensor("w").unwrap();
        tensor.elements(0..tensor.info.elements()).to_vec()
    }

    proptest! {
        #[test]
        fn an_exchange_gives_what_an_apply_gives_and_takes_it_back(
            pairs in prop::collection::vec((-4.0f32..4.0, prop::option::weighted(0.3, -4.0f32..4.0)), 1..200),
            alpha in prop_oneof![Just(0.0), Just(1.0), -3.0f64..3.0],
        ) {
            let (base, reference): (Vec<f32>, Vec<f32>) =
                pairs.into_iter().map(|(base, other)| (base, other.unwrap_or(base))).unzip();
            let (base, reference) = (floats(&[("w", &base)]), floats(&[("w", &reference)]));
            let edits = [portable(&base, &reference, alpha)];
            let plan = Plan::check(&base, &edits, &PlanOptions::default(), &Context::silent()).unwrap();
            let mut memory = bytes(&base);
            let mut exchanges = plan.exchanges(&Context::silent()).unwrap();
            for exchange in &mut exchanges {
                prop_assert_eq!(exchange.positions().len() as u64, exchange.len());
                let (before, after) = (exchange.digest(&memory), exchange.other_digest());
                exchange.exchange(&mut memory);
                prop_assert_eq!((exchange.digest(&memory), exchange.other_digest()), (after, before));
            }
            let mut words = Vec::new();
            Width::W4.load_at(&memory, 0..memory.len() / 4, &mut words);
            prop_assert_eq!(&words, &applied(&base, &edits)["w"]);
            exchanges.iter_mut().for_each(|exchange| exchange.exchange(&mut memory));
            prop_assert_eq!(memory, bytes(&base));
        }
    }
}
