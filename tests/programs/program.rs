// SPDX-License-Identifier: MIT
// program.rs - a Rust program for cases.sh: collections, growth, zeroed and over-aligned memory, threads, a caught panic.
use std::alloc::{alloc, alloc_zeroed, dealloc, realloc, Layout};
use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc;
use std::thread;

fn collections(seed: u64) -> usize {
    let mut map: HashMap<u64, String> = HashMap::new();
    let mut tree: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for i in 0..50_000u64 {
        map.insert((i * 7919 + seed) % 10_007, "x".repeat((i % 100) as usize));
        tree.entry(i % 997).or_default().push(i as u8);
    }
    map.values().map(|s| s.len()).sum::<usize>() + tree.values().map(|v| v.len()).sum::<usize>()
}

fn raw() -> bool {
    let mut good = true;
    for shift in 4..22 {
        let align = 1usize << shift.min(16);
        let layout = Layout::from_size_align((1 << shift) + 3, align).unwrap();
        unsafe {
            let zeroed = alloc_zeroed(layout);
            let block = alloc(layout);
            good &= (0..layout.size()).all(|i| *zeroed.add(i) == 0);
            good &= zeroed as usize % align == 0 && block as usize % align == 0;
            block.write_bytes(7, layout.size());
            let grown = realloc(block, layout, layout.size() * 3);
            good &= (0..layout.size()).all(|i| *grown.add(i) == 7) && grown as usize % align == 0;
            dealloc(grown, Layout::from_size_align(layout.size() * 3, align).unwrap());
            dealloc(zeroed, layout);
        }
    }
    good
}

fn main() {
    println!("collections {}", collections(1));
    println!("raw {}", raw());
    let mut grown: Vec<u64> = Vec::new();
    for i in 0..20_000_000 {
        grown.push(i);
    }
    grown.shrink_to(100);
    println!("vector {}", grown.iter().sum::<u64>());
    let (sender, receiver) = mpsc::channel::<Vec<String>>();
    let threads: Vec<_> = (0..8)
        .map(|t| {
            let sender = sender.clone();
            thread::spawn(move || {
                for i in 0..200 {
                    sender.send((0..i).map(|n| format!("{t}-{n}-{}", "y".repeat(n))).collect()).unwrap();
                }
                collections(t)
            })
        })
        .collect();
    drop(sender);
    let bytes: usize = receiver.iter().map(|v| v.iter().map(|s| s.len()).sum::<usize>()).sum();
    let sums: usize = threads.into_iter().map(|t| t.join().unwrap()).sum();
    println!("threads {bytes} {sums}");
    std::panic::set_hook(Box::new(|_| {}));
    let caught = std::panic::catch_unwind(|| {
        let held = vec![1u8; 100_000];
        if held.len() > 1 {
            panic!("{}", "z".repeat(1000));
        }
    });
    println!("panic caught {}", caught.is_err());
}
