//! A run over rows that are in memory, with the toy as its model.

use ivon_lora::data::{Dataset, Split};
use ivon_lora::method::Method;
use ivon_lora::run::{Start, TrainingData, UntunedAnswers, train_on_data};
use ivon_lora::train::Outcome;
use ivon_lora::watch::Event;
use ivon_lora_toy as toy;

/// So many rows of the toy's question, with the label that goes by the animal.
fn rows(animals: &[&str]) -> Vec<serde_json::Map<String, serde_json::Value>> {
    let row = |animal: &&str| {
        let report = format!("At dusk, Anna the farmer met {animal} in the forest.");
        let label = usize::from(animal.contains("wolf"));
        let row = serde_json::json!({ "report": report, "label": label });
        row.as_object().unwrap().clone()
    };
    animals.iter().map(row).collect()
}

#[test]
fn rows_in_memory_are_trained_on_and_a_run_of_them_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join(toy::NAME);
    toy::write_model(&model).unwrap();
    let mut config = toy::run_config(
        Method::named("adamw").unwrap(),
        &model,
        "".as_ref(),
        &folder.path().join("run"),
    );
    config.train.steps = Some(3);
    config.train.eval_interval = None;
    let task = toy::task();
    let dataset = Dataset::from_rows(
        &config.data,
        &task,
        [
            (
                Split::Train,
                rows(&["an owl", "a wolf", "a hen", "a grey wolf"]),
            ),
            (Split::Tune, rows(&["a cow"])),
            (Split::Calibrate, rows(&["a horse", "an old wolf"])),
            (Split::Test, rows(&["a pig", "a white wolf"])),
        ]
        .into(),
    )
    .unwrap();
    let data = TrainingData {
        model: &model.display().to_string(),
        task: &task,
        dataset: &dataset,
        untuned: &UntunedAnswers::default(),
    };
    let mut steps = 0;
    let stopped = train_on_data(&config, &data, Start::New, &mut |event| {
        steps += usize::from(matches!(event, Event::Step(..)));
        steps == 0
    });
    assert_eq!(stopped.unwrap().outcome, Outcome::Interrupted);
    let resumed = train_on_data(&config, &data, Start::Resumed, &mut |_| true).unwrap();
    assert_eq!(
        (resumed.steps, resumed.report.unwrap().choices().unwrap().n),
        (3, 2)
    );
}
