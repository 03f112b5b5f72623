//! The parts that a patch's time is made of, each alone. `cargo bench --no-default-features`.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use lcepatch::internal::Impossible;
use lcepatch::internal::ranking::{self, Keys, Outside};
use lcepatch_format::block::BlockId;
use lcepatch_format::codec::gaps::{self, GroupedGaps, GroupedPositions};
use lcepatch_format::codec::groups::{self, Partition, Sequences};
use lcepatch_format::codec::{Effort, Number, pco, rice};
use lcepatch_format::digest::Digest;
use lcepatch_format::dtype::{Classes, Dtype};
use lcepatch_format::random::Numbers;
use std::ops::RangeInclusive;

/// Elements of a block.
const ELEMENTS: usize = 1 << 20;
/// One element of so many is selected.
const RARITY: u64 = 40;
const NUMBERS: usize = 1 << 16;

fn main() {
    divan::main();
}

/// Near a geometric distribution with this mean.
fn geometric_number(numbers: &mut Numbers, mean: f64) -> u32 {
    (-mean * (1.0 - numbers.unit()).ln()) as u32
}

/// The bytes of a block of bf16 weights with exponents as a trained matrix has them.
fn weights() -> Vec<u8> {
    let mut numbers = Numbers::new(1);
    let weight = |_| {
        let exponent = 122u16.saturating_sub(geometric_number(&mut numbers, 1.5) as u16);
        ((numbers.bits() as u16) & 0x807f | exponent << 7).to_le_bytes()
    };
    (0..ELEMENTS).flat_map(weight).collect()
}

/// Positions of selected elements, and how many there are of each class.
fn selected(weights: &[u8]) -> (Vec<u32>, Vec<u64>) {
    let mut numbers = Numbers::new(2);
    let positions: Vec<u32> = (0..ELEMENTS as u32).filter(|_| numbers.below(RARITY) == 0).collect();
    let mut counts = vec![0; Dtype::Bf16.classes()];
    let class = |at: &u32| Dtype::Bf16.class(Dtype::Bf16.width().load(weights, *at as usize));
    positions.iter().for_each(|at| counts[usize::from(class(at))] += 1);
    (positions, counts)
}

fn classes(weights: &[u8]) -> Classes {
    Dtype::Bf16.classes_of(weights, Classes::Narrow(Vec::new()))
}

fn walked(classes: &Classes, positions: &[u32], counts: &[u64]) -> GroupedGaps {
    let mut gaps = GroupedGaps::new(Partition::of_counts(counts), counts);
    gaps.walk(0, classes, positions);
    gaps
}

fn geometric<N: Number>(mean: f64) -> Vec<N> {
    let mut numbers = Numbers::new(3);
    (0..NUMBERS).map(|_| N::low(geometric_number(&mut numbers, mean).into())).collect()
}

#[divan::bench]
fn classes_of_bf16(bencher: Bencher<'_, '_>) {
    let weights = weights();
    bencher.counter(ItemsCount::new(ELEMENTS)).bench(|| classes(black_box(&weights)));
}

#[divan::bench]
fn class_walk_to_gaps(bencher: Bencher<'_, '_>) {
    let weights = weights();
    let (classes, (positions, counts)) = (classes(&weights), selected(&weights));
    bencher.counter(ItemsCount::new(ELEMENTS)).bench(|| walked(black_box(&classes), &positions, &counts));
}

#[divan::bench]
fn class_walk_to_positions(bencher: Bencher<'_, '_>) {
    let weights = weights();
    let (classes, (positions, counts)) = (classes(&weights), selected(&weights));
    let coded = walked(&classes, &positions, &counts).encode(Effort::Default);
    bencher
        .counter(ItemsCount::new(ELEMENTS))
        .with_inputs(|| GroupedPositions::decode(&coded, counts.len(), positions.len()).unwrap())
        .bench_values(|mut found| {
            found.walk(0, black_box(&classes));
            found.finish(ELEMENTS as u32)
        });
}

#[divan::bench]
fn gaps_encode(bencher: Bencher<'_, '_>) {
    let (positions, _) = selected(&weights());
    bencher.counter(ItemsCount::new(positions.len())).bench(|| gaps::encode(black_box(&positions), Effort::Default));
}

#[divan::bench]
fn gaps_decode(bencher: Bencher<'_, '_>) {
    let (positions, _) = selected(&weights());
    let coded = gaps::encode(&positions, Effort::Default);
    bencher
        .counter(ItemsCount::new(positions.len()))
        .bench(|| gaps::decode(black_box(&coded), positions.len(), ELEMENTS as u32));
}

#[divan::bench(types = [u16, u32, u64])]
fn rice_encode<N: Number>(bencher: Bencher<'_, '_>) {
    let numbers = geometric::<N>(20.0);
    let (parameter, _) = rice::best_parameter(&numbers);
    bencher.counter(ItemsCount::new(NUMBERS)).bench(|| {
        let mut writer = rice::Writer::default();
        black_box(&numbers).iter().for_each(|number| writer.push(*number, parameter));
        writer.finish()
    });
}

#[divan::bench(types = [u16, u32, u64])]
fn rice_decode<N: Number>(bencher: Bencher<'_, '_>) {
    let numbers = geometric::<N>(20.0);
    let (parameter, _) = rice::best_parameter(&numbers);
    let mut writer = rice::Writer::default();
    numbers.iter().for_each(|number| writer.push(*number, parameter));
    let coded = writer.finish();
    bencher.counter(ItemsCount::new(NUMBERS)).bench(|| {
        let mut out = Vec::<N>::new();
        rice::Reader::new(black_box(&coded)).pull_all(NUMBERS, parameter, &mut out).map(|()| out)
    });
}

#[divan::bench(types = [u16, u32, u64], args = [0.5, 20.0])]
fn pco_encode<N: Number>(bencher: Bencher<'_, '_>, mean: f64) {
    let numbers = geometric::<N>(mean);
    bencher.counter(ItemsCount::new(NUMBERS)).bench(|| pco::chunks(black_box(&numbers), Effort::Default));
}

#[divan::bench(types = [u16, u32, u64], args = [0.5, 20.0])]
fn pco_decode<N: Number>(bencher: Bencher<'_, '_>, mean: f64) {
    let chunks = pco::chunks(&geometric::<N>(mean), Effort::Default);
    let coded = pco::file([&chunks[..]], NUMBERS);
    bencher.counter(ItemsCount::new(NUMBERS)).bench(|| pco::decode::<N>(black_box(&coded), NUMBERS));
}

#[divan::bench(args = [0.5, 20.0])]
fn groups_encode(bencher: Bencher<'_, '_>, mean: f64) {
    let counts = [NUMBERS as u64 / 16; 16];
    let mut sequences = Sequences::<u16>::zeros(Partition::of_counts(&counts), &counts);
    sequences.numbers_mut().copy_from_slice(&geometric(mean));
    bencher.counter(ItemsCount::new(NUMBERS)).bench(|| black_box(&sequences).encode(Effort::Default));
}

#[divan::bench(args = [0.5, 20.0])]
fn groups_decode(bencher: Bencher<'_, '_>, mean: f64) {
    let coded = groups::encode_whole(&geometric::<u16>(mean), Effort::Default);
    bencher.counter(ItemsCount::new(NUMBERS)).bench(|| groups::decode::<u16>(black_box(&coded), 1, NUMBERS));
}

/// Keys in memory, as those that are kept while a pair is read.
struct Held(Vec<u64>);

impl Keys for Held {
    type Error = Impossible;

    fn blocks(&self) -> &[BlockId] {
        &[BlockId { tensor: 0, index: 0 }]
    }

    fn elements(&self) -> u64 {
        self.0.len() as u64
    }

    fn sample(&self, _: BlockId, step: u64) -> Vec<u64> {
        self.0.iter().step_by(step as usize).copied().collect()
    }

    fn walk(
        &self,
        _: BlockId,
        range: RangeInclusive<u64>,
        mut each: impl FnMut(u32, u64),
    ) -> Result<Outside, Impossible> {
        let mut outside = Outside::default();
        let inside = (0..).zip(&self.0).filter(|(_, key)| outside.admit(**key, &range));
        inside.for_each(|(position, key)| each(position, *key));
        Ok(outside)
    }
}

#[divan::bench(args = [1, 50, 500])]
fn top_k(bencher: Bencher<'_, '_>, per_mille: u64) {
    let mut numbers = Numbers::new(4);
    let keys = Held((0..ELEMENTS).map(|_| f64::from(geometric_number(&mut numbers, 1e6)).to_bits()).collect());
    let k = ELEMENTS as u64 * per_mille / 1000;
    bencher.counter(ItemsCount::new(ELEMENTS)).bench(|| ranking::select(k, black_box(&keys)).unwrap());
}

#[divan::bench]
fn sha256(bencher: Bencher<'_, '_>) {
    let weights = weights();
    bencher.counter(BytesCount::new(weights.len())).bench(|| Digest::sha256(black_box(&weights)));
}

#[divan::bench]
fn blake3_one_thread(bencher: Bencher<'_, '_>) {
    let weights = weights();
    bencher.counter(BytesCount::new(weights.len())).bench(|| blake3::hash(black_box(&weights)));
}
