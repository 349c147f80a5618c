//! Cycles between files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::FileUses;

/// Finds a shortest cycle through each file, and describes each cycle once: its arrows, with the names that
/// are used.
pub fn find_cycles(uses: &FileUses) -> BTreeSet<String> {
    let cycles = uses.keys().filter_map(|file| shortest_cycle(uses, file));
    cycles.map(|cycle| describe(uses, &cycle)).collect()
}

/// The files of a shortest cycle through `start`, beginning with the first by name.
fn shortest_cycle<'a>(uses: &'a FileUses, start: &'a str) -> Option<Vec<&'a str>> {
    let mut seen = BTreeSet::new();
    let mut trails = VecDeque::from([vec![start]]);
    while let Some(trail) = trails.pop_front() {
        for next in trail.last().and_then(|last| uses.get(*last)).into_iter().flat_map(BTreeMap::keys) {
            if next == start {
                return Some(rotate_to_first(trail));
            }
            if seen.insert(next) {
                trails.push_back([&trail[..], &[next]].concat());
            }
        }
    }
    None
}

fn rotate_to_first(mut cycle: Vec<&str>) -> Vec<&str> {
    let first = (0..cycle.len()).min_by_key(|&index| cycle[index]).unwrap_or(0);
    cycle.rotate_left(first);
    cycle
}

fn describe(uses: &FileUses, cycle: &[&str]) -> String {
    let followers = cycle.iter().cycle().skip(1);
    let arrows = cycle.iter().zip(followers).map(|(file, used)| {
        let names: Vec<_> = uses[*file][*used].iter().map(String::as_str).collect();
        format!("{file} uses {} of {used}", names.join(", "))
    });
    arrows.collect::<Vec<_>>().join("; ")
}
