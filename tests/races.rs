//! Edits in place beside each other and on many threads: the bytes are those of a new file, every time.

use crate::support::*;
use std::process::Stdio;

/// Tensors of many kinds: their names, dtypes, shapes.
fn shapes(kind: usize) -> Vec<(String, &'static str, usize)> {
    match kind {
        // Many small tensors, which threads finish in any order.
        0 => (0..16).map(|i| (format!("t{i:03}"), "F32", 4096)).collect(),
        1 => (0..100).map(|i| (format!("t{i:03}"), "F32", 256)).collect(),
        // Low-rank adapters: alternating shapes.
        2 => (0..32).map(|i| (format!("layer.{}.lora_{}", i / 2, ["A", "B"][i % 2]), "BF16", 1024)).collect(),
        // Mixed dtypes, at offsets that are no multiples of their widths.
        _ => (0..24).map(|i| (format!("t{i:03}"), ["U8", "F16", "F32", "F64", "BF16"][i % 5], 301 + 7 * i)).collect(),
    }
}

fn pair(kind: usize, seed: u64) -> [Vec<u8>; 2] {
    let mut random = Random::new(seed);
    let mut sides = [Vec::new(), Vec::new()];
    for (name, dtype, elements) in shapes(kind) {
        let width = match dtype {
            "U8" => 1,
            "F16" | "BF16" => 2,
            "F32" => 4,
            _ => 8,
        };
        let small = |random: &mut Random| match dtype {
            "F32" => (random.unit() * 0.1).to_le_bytes().to_vec(),
            "F64" => f64::from(random.unit() * 0.1).to_le_bytes().to_vec(),
            "BF16" => ((random.unit() * 0.1).to_bits().to_le_bytes()[2..]).to_vec(),
            // Any finite half: the exponent is not all ones.
            "F16" => (((random.unit().to_bits() >> 8) as u16) & 0xbbff).to_le_bytes().to_vec(),
            _ => vec![(random.unit() * 127.0) as i8 as u8],
        };
        let target: Vec<u8> = (0..elements).flat_map(|_| small(&mut random)).collect();
        let mut reference = target.clone();
        for element in 0..elements {
            if random.unit() > 0.2 {
                reference[element * width..(element + 1) * width].copy_from_slice(&small(&mut random));
            }
        }
        for (side, bytes) in sides.iter_mut().zip([target, reference]) {
            side.push(Tensor::new(&name, dtype, &[1, elements as u64], bytes));
        }
    }
    sides.map(|side| safetensors(&side))
}

fn runs() -> usize {
    std::env::var("LCEPATCH_RACES").map_or(40, |runs| runs.parse().unwrap())
}

#[test]
fn in_place_gives_the_bytes_of_a_new_file_on_any_number_of_threads() {
    let threads = ["1", "2", "3", "8", "16"];
    for run in 0..runs() {
        let kind = run % 4;
        let dir = Dir::new();
        let [target, reference] = pair(kind, run as u64 / 8);
        dir.write("a.safetensors", &target);
        dir.write("b.safetensors", &reference);
        let size = if kind == 3 || run % 8 < 4 { "--all" } else { "--density 5%" };
        dir.run(&format!("diff a.safetensors b.safetensors -o p {size}")).ok();
        dir.run("apply a.safetensors p -o new.safetensors --alpha 1").ok();
        for threads in threads {
            dir.write("edited.safetensors", &target);
            let mut command = dir.command();
            command.env("LCEPATCH_THREADS", threads);
            let arguments = ["apply", "edited.safetensors", "p", "--in-place", "--quick", "--alpha", "1"];
            let edited = Run::new("apply in place", command.args(arguments).output().unwrap());
            edited.ok();
            assert!(
                dir.read("edited.safetensors") == dir.read("new.safetensors"),
                "run {run}, {threads} threads, {size}"
            );
        }
    }
}

#[test]
fn of_several_processes_on_one_file_each_makes_its_whole_edit_or_none() {
    let mut edits = 0;
    for run in 0..runs() / 4 {
        let dir = Dir::new();
        let [target, reference] = pair(0, 1000 + run as u64);
        dir.write("a.safetensors", &target);
        dir.write("b.safetensors", &reference);
        dir.run("diff a.safetensors b.safetensors -o p --density 20%").ok();
        let alphas = ["1", "-2", "0.5"];
        let expected: Vec<Vec<u8>> = alphas
            .iter()
            .map(|alpha| {
                dir.run(&format!("apply a.safetensors p -o new --alpha {alpha} --force")).ok();
                dir.read("new")
            })
            .collect();
        let processes: Vec<_> = alphas
            .iter()
            .map(|alpha| {
                std::thread::sleep(std::time::Duration::from_millis(run as u64 % 7));
                let mut command = dir.command();
                command.args(["apply", "a.safetensors", "p", "--in-place", "--alpha", alpha]);
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        let codes: Vec<Option<i32>> =
            processes.into_iter().map(|process| process.wait_with_output().unwrap().status.code()).collect();
        let after = dir.read("a.safetensors");
        // Whoever came second found another base, or a file in use.
        assert!(codes.iter().all(|code| matches!(code, Some(0 | 2 | 6))), "{codes:?}");
        let done: Vec<usize> = (0..3).filter(|at| codes[*at] == Some(0)).collect();
        match done[..] {
            [] => assert!(after == target, "{codes:?}"),
            [one] => assert!(after == expected[one], "{codes:?}"),
            _ => panic!("two edits of one base: {codes:?}"),
        }
        edits += done.len();
        assert_eq!(dir.names(), ["a.safetensors", "b.safetensors", "new", "p"]);
    }
    assert!(edits > 0);
}

#[test]
fn who_reads_beside_an_edit_gets_the_old_or_the_new_file_or_is_told_to_wait() {
    for run in 0..runs() / 4 {
        let dir = Dir::new();
        let [target, reference] = pair(0, 2000 + run as u64);
        dir.write("a.safetensors", &target);
        dir.write("b.safetensors", &reference);
        dir.run("diff a.safetensors b.safetensors -o p --density 20%").ok();
        dir.run("apply a.safetensors p -o expected --alpha -2").ok();
        let mut edit = dir.command();
        edit.args(["apply", "a.safetensors", "p", "--in-place", "--alpha", "1"]);
        let mut edit = edit.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(run as u64 % 9));
        let mut read = dir.command();
        read.args(["apply", "a.safetensors", "p", "-o", "read", "--alpha", "-2"]);
        let read = read.output().unwrap();
        edit.wait().unwrap();
        match read.status.code() {
            Some(0) => assert!(dir.read("read") == dir.read("expected"), "a mixture was read"),
            Some(2 | 6) => assert!(!dir.exists("read")),
            code => panic!("{code:?}: {}", String::from_utf8_lossy(&read.stderr)),
        }
    }
}
