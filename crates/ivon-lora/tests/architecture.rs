//! ARCHITECTURE.md says what is there.

use std::fs::read_to_string;
use std::path::Path;

use regex::Regex;

#[test]
fn the_picture_and_the_table_of_rooms_are_those_of_the_crates() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let (_, table) = page.split_once("| room |").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let mut listed = Vec::new();
    for row in table.lines().skip(2) {
        let first = row.split('|').nth(1).unwrap();
        listed.extend(first.split(',').map(|room| room.trim().replace('`', "")));
    }
    let room = Regex::new(r"(?m)^pub(?:\(crate\))? mod (\w+);").unwrap();
    let mut rooms = Vec::new();
    for name in [
        "ivon-lora-model",
        "ivon-lora",
        "ivon-lora-lab",
        "ivon-lora-toy",
    ] {
        let code = read_to_string(root.join(format!("crates/{name}/src/lib.rs"))).unwrap();
        let found = room.captures_iter(&code).map(|found| found[1].to_string());
        let found: Vec<String> = found.filter(|room| room != "testing").collect();
        let line = Regex::new(&format!(r"(?m)^[ │]*{name}  +(.+)$")).unwrap();
        let drawn = line.captures(&page).map(|line| line[1].to_string());
        assert_eq!(drawn, Some(found.join(" · ")), "the rooms of {name}");
        rooms.extend(found);
    }
    listed.sort();
    rooms.sort();
    assert_eq!(listed, rooms, "the table of rooms");
}
