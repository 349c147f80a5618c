//! What we want of delivery, beside what was measured.

use std::time::Duration;

use crate::{CLIENTS, Figures, process::Kind};

/// Late is what arrives after this.
const LATE: Duration = Duration::from_millis(100);
const TIMES_NODES_PEAK: f64 = 10.0;
const OF_NODES_CPU: f64 = 0.8;
const OF_NODES_LATENCY: f64 = 0.5;
const KIB_A_CONNECTION: f64 = 18.0;

#[derive(Default)]
pub struct Verdict {
    steps: Vec<Step>,
    memory: Vec<(Kind, f64)>,
}

struct Step {
    kind: Kind,
    size: usize,
    rate: u32,
    per_second: f64,
    cpu: Duration,
    p99: Duration,
    sustained: bool,
}

impl Verdict {
    pub fn note_step(&mut self, kind: Kind, size: usize, rate: u32, figures: &Figures) {
        let Figures { per_second, p99, .. } = *figures;
        let cpu = figures.cpu.all();
        let sustained = figures.sustained(rate, CLIENTS);
        self.steps.push(Step { kind, size, rate, per_second, cpu, p99, sustained });
    }

    pub fn note_memory(&mut self, kind: Kind, kib: f64) {
        self.memory.push((kind, kib));
    }

    pub fn print(&self) {
        println!("\n## Beside what is wanted\n");
        println!("| figure | PhotoShare | Node | ratio | wanted | reached |");
        println!("| --- | --- | --- | --- | --- | --- |");
        for size in crate::SIZES {
            let beside = |name: &str,
                          unit: &str,
                          wanted: f64,
                          more: bool,
                          of: &dyn Fn(Kind) -> Option<f64>| {
                let (Some(ours), Some(nodes)) = (of(Kind::PhotoShare), of(Kind::Node)) else { return };
                let ratio = ours / nodes;
                let reached = if more { ratio >= wanted } else { ratio <= wanted };
                let sign = if more { "≥" } else { "≤" };
                println!(
                    "| {name}, {size} B | {ours:.1}{unit} | {nodes:.1}{unit} | {ratio:.2} | {sign} {wanted} | {} |",
                    yes(reached)
                );
            };
            beside("most deliveries/s, p99 under 100 ms", "", TIMES_NODES_PEAK, true, &|kind| {
                self.peak(kind, size)
            });
            beside("CPU per delivery at 50/s", " µs", OF_NODES_CPU, false, &|kind| {
                self.step(kind, size, 50).map(|step| step.cpu.as_nanos() as f64 / 1e3)
            });
            beside("p99 at 20/s", " ms", OF_NODES_LATENCY, false, &|kind| {
                self.step(kind, size, 20).map(|step| step.p99.as_secs_f64() * 1e3)
            });
        }
        let memory = |wanted| self.memory.iter().find(|(kind, _)| *kind == wanted).map(|(_, kib)| *kib);
        if let Some(ours) = memory(Kind::PhotoShare) {
            let nodes = memory(Kind::Node).map_or("-".into(), |kib| format!("{kib:.1} KiB"));
            println!(
                "| an idle connection | {ours:.1} KiB | {nodes} | | ≤ {KIB_A_CONNECTION} KiB | {} |",
                yes(ours <= KIB_A_CONNECTION)
            );
        }
    }

    /// The most that was sustained and not late.
    fn peak(&self, kind: Kind, size: usize) -> Option<f64> {
        let steps = self.steps.iter().filter(|step| step.kind == kind && step.size == size);
        let good = steps.filter(|step| step.sustained && step.p99 < LATE);
        good.map(|step| step.per_second).max_by(f64::total_cmp)
    }

    fn step(&self, kind: Kind, size: usize, rate: u32) -> Option<&Step> {
        self.steps.iter().find(|step| step.kind == kind && step.size == size && step.rate == rate)
    }
}

fn yes(reached: bool) -> &'static str {
    if reached { "yes" } else { "no" }
}
