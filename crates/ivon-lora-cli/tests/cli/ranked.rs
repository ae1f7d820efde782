//! Rows in the order of a score.

use serde_json::Value;

use crate::helpers::Place;

fn rows(text: &str) -> Vec<Value> {
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_flipped_label_among_the_training_rows_comes_first() {
    let place = Place::new();
    let train = place.read("data/train.jsonl");
    let flip = |(index, line): (usize, &str)| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        if index == 7 {
            let label = row["label"].as_i64().unwrap();
            row["label"] = (1 - label).into();
            row["id"] = "flipped".into();
        }
        row.to_string() + "\n"
    };
    let flipped: String = train.lines().enumerate().map(flip).collect();
    place.write("data/train.jsonl", &flipped);
    place.run("train --model model --data data --task sst2 --out run --steps 40 --samples 4 --threads 1").ok();
    let rank = "rank --model model --adapter run --data data --split train --json";
    for by in ["leave-one-out", "loss"] {
        let all = rows(&place.run(&format!("{rank} --by {by}")).ok());
        assert_eq!(all.len(), 40);
        assert_eq!(all[0]["id"], "flipped", "{by}");
        assert_ne!(all[0]["label"], all[0]["answer"]);
        let scores: Vec<f64> = all
            .iter()
            .map(|row| row["score"].as_f64().unwrap())
            .collect();
        assert!(scores.windows(2).all(|pair| pair[0] >= pair[1]));
    }
    place.write(
        "pool.jsonl",
        "{\"text\": \"good film\"}\n{\"text\": \"good bad\"}\n",
    );
    let pool = "rank --model model --adapter run --data pool.jsonl --by mutual-information --json";
    let all = rows(&place.run(pool).ok());
    assert!(
        all.len() == 2 && all.iter().all(|row| row["label"].is_null()),
        "{all:?}"
    );
    assert_eq!(rows(&place.run(&format!("{pool} --top 1")).ok()), all[..1]);
    place
        .run("rank --model model --adapter run --data pool.jsonl --by bald")
        .fails_with(
            2,
            &["`--by` is `bald`, expected one of `leave-one-out`, `loss`"],
        );
}
