//! The performance targets, compared with what was measured.

use std::time::Duration;

use crate::{CLIENTS, Figures, process::ServerKind};

/// A step counts for the peak only if its p99 latency is below this.
const MAX_P99: Duration = Duration::from_millis(100);
/// Peak deliveries per second, relative to Node: at least.
const MIN_PEAK_RATIO: f64 = 10.0;
/// CPU time per delivery, relative to Node: at most.
const MAX_CPU_RATIO: f64 = 0.8;
/// p99 latency, relative to Node: at most.
const MAX_P99_RATIO: f64 = 0.5;
/// Memory of an idle connection: at most.
const MAX_KIB_PER_CONNECTION: f64 = 18.0;

#[derive(Default)]
pub struct TargetReport {
    steps: Vec<Step>,
    memory: Vec<(ServerKind, f64)>,
}

struct Step {
    kind: ServerKind,
    size: usize,
    rate: u32,
    per_second: f64,
    cpu: Duration,
    p99: Duration,
    sustained: bool,
}

impl TargetReport {
    pub fn record_step(&mut self, kind: ServerKind, size: usize, rate: u32, figures: &Figures) {
        let Figures { per_second, p99, .. } = *figures;
        let cpu = figures.cpu.total();
        let sustained = figures.sustained(rate, CLIENTS);
        self.steps.push(Step { kind, size, rate, per_second, cpu, p99, sustained });
    }

    pub fn record_memory(&mut self, kind: ServerKind, kib: f64) {
        self.memory.push((kind, kib));
    }

    pub fn print(&self) {
        println!("\n## Targets\n");
        println!("| figure | PhotoShare | Node | ratio | target | reached |");
        println!("| --- | --- | --- | --- | --- | --- |");
        for size in crate::SIZES {
            let print_ratio = |name: &str,
                               unit: &str,
                               target: f64,
                               higher_is_better: bool,
                               value_of: &dyn Fn(ServerKind) -> Option<f64>| {
                let (Some(ours), Some(node)) = (value_of(ServerKind::PhotoShare), value_of(ServerKind::Node))
                else {
                    return;
                };
                let ratio = ours / node;
                let reached = if higher_is_better { ratio >= target } else { ratio <= target };
                let sign = if higher_is_better { "≥" } else { "≤" };
                println!(
                    "| {name}, {size} B | {ours:.1}{unit} | {node:.1}{unit} | {ratio:.2} | {sign} {target} | {} |",
                    yes_or_no(reached)
                );
            };
            print_ratio("peak deliveries/s, p99 under 100 ms", "", MIN_PEAK_RATIO, true, &|kind| {
                self.peak(kind, size)
            });
            print_ratio("CPU per delivery at 50/s", " µs", MAX_CPU_RATIO, false, &|kind| {
                self.step(kind, size, 50).map(|step| step.cpu.as_nanos() as f64 / 1e3)
            });
            print_ratio("p99 at 20/s", " ms", MAX_P99_RATIO, false, &|kind| {
                self.step(kind, size, 20).map(|step| step.p99.as_secs_f64() * 1e3)
            });
        }
        let memory = |server| self.memory.iter().find(|(kind, _)| *kind == server).map(|(_, kib)| *kib);
        if let Some(ours) = memory(ServerKind::PhotoShare) {
            let node = memory(ServerKind::Node).map_or("-".into(), |kib| format!("{kib:.1} KiB"));
            println!(
                "| an idle connection | {ours:.1} KiB | {node} | | ≤ {MAX_KIB_PER_CONNECTION} KiB | {} |",
                yes_or_no(ours <= MAX_KIB_PER_CONNECTION)
            );
        }
    }

    /// Highest rate of deliveries that was sustained with a low latency.
    fn peak(&self, kind: ServerKind, size: usize) -> Option<f64> {
        let steps = self.steps.iter().filter(|step| step.kind == kind && step.size == size);
        let in_time = steps.filter(|step| step.sustained && step.p99 < MAX_P99);
        in_time.map(|step| step.per_second).max_by(f64::total_cmp)
    }

    fn step(&self, kind: ServerKind, size: usize, rate: u32) -> Option<&Step> {
        self.steps.iter().find(|step| step.kind == kind && step.size == size && step.rate == rate)
    }
}

fn yes_or_no(reached: bool) -> &'static str {
    if reached { "yes" } else { "no" }
}
