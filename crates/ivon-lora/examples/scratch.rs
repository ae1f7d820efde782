//! scratch
use ivon_lora::{data::DataConfig, method::*, run::*, train::TrainConfig};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let optimizer = match args[1].as_str() {
        "ivon" => Method::Ivon(IvonMethodConfig { learning_rate: 0.1, ..Default::default() }),
        _ => Method::Adamw(AdamwConfig { learning_rate: 5e-4, ..Default::default() }),
    };
    let steps: u64 = args[2].parse().unwrap();
    let mut config = RunConfig { seed: 21, out: Some(args[3].clone().into()), optimizer, ..Default::default() };
    config.model.path = Some("models/smollm2-135m-instruct".into());
    config.data = DataConfig {
        path: format!("../shared/data/{}", args[4]).into(),
        task: Some(args[4].clone()),
        train_limit: Some(args[5].parse().unwrap()),
        eval_limit: Some(args[6].parse().unwrap()),
        ..Default::default()
    };
    config.train = TrainConfig { steps: Some(steps), ..Default::default() };
    config.evaluation.samples = args[7].parse().unwrap();
    let started = std::time::Instant::now();
    let mut times = vec![];
    let result = train(&config, std::env::var("RESUME").is_ok(), &mut |event| {
        match event {
            RunEvent::Step(record, of) => {
                times.push(record.step_seconds);
                if record.step % 10 == 0 || record.step < 4 {
                    println!(
                        "{}/{of} loss {:.4} {:.3}s tokens {} clipped {:?} grad {:.3}",
                        record.step, record.loss, record.step_seconds, record.tokens, record.clipped_share, record.gradient_norm
                    )
                }
            }
            RunEvent::Progress { .. } => {}
            other => println!("{:.1} {other:?}", started.elapsed().as_secs_f64()),
        }
        true
    });
    times.sort_by(f64::total_cmp);
    println!("median step {:.3}", times[times.len() / 2]);
    match result {
        Ok(run) => println!("{:?} {}\n{}", run.outcome, run.kept_step, run.report.unwrap()),
        Err(error) => println!("error: {error}\nhint: {:?}", error.hint()),
    }
    println!(
        "{:.1}s peak {}",
        started.elapsed().as_secs_f64(),
        std::fs::read_to_string("/proc/self/status").unwrap().lines().find(|l| l.starts_with("VmHWM")).unwrap()
    );
}
