//! The report as text.

use super::Report;

/// Prints a backend's table: each stage's time, what it reached, and its share of what the device can do.
pub fn print(report: &Report) {
    println!(
        "\n{} ({}), {} weights: {} sample(s), {} patches, {} prompt tokens, {} tokens, {} flow steps",
        report.backend,
        report.device,
        report.weights,
        report.samples,
        report.patches,
        report.prompt_tokens,
        report.tokens,
        report.flow_steps
    );
    let ceilings = &report.ceilings;
    println!(
        "ceilings: {:.2} TB/s (large copy), {:.1} TFLOP/s (large product)",
        ceilings.bytes_per_second / 1e12,
        ceilings.operations_per_second / 1e12
    );
    println!(
        "{:<20} {:>10} {:>10} {:>10} {:>10} {:>12} {:>8}",
        "stage", "ms", "host, ms", "TFLOP/s", "TB/s", "floor, ms", "of it"
    );
    for stage in &report.stages {
        let seconds = stage.milliseconds / 1e3;
        match &stage.work {
            None => println!(
                "{:<20} {:>10.2} {:>10.2}",
                stage.name, stage.milliseconds, stage.host_milliseconds
            ),
            Some(work) => println!(
                "{:<20} {:>10.2} {:>10.2} {:>10.1} {:>10.3} {:>12.2} {:>7.0}%",
                stage.name,
                stage.milliseconds,
                stage.host_milliseconds,
                work.operations / seconds / 1e12,
                work.bytes / seconds / 1e12,
                work.floor(ceilings) * 1e3,
                100.0 * work.floor(ceilings) / seconds
            ),
        }
    }
    println!("{:<20} {:>10.2}", "whole plan", report.plan_milliseconds);
    println!("{:<20} {:>10.2}", "first plan", report.first_milliseconds);
    println!("{:<20} {:>10.2} s", "load", report.load_seconds);
    if let Some(memory) = report.memory_gib {
        println!("{:<20} {:>10.2} GiB", "device memory", memory);
    }
}
