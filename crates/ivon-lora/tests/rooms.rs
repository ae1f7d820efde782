//! Knowledge flows one way: a file uses only what stands above it by the order of `mod` lines,
//! between rooms and inside them. A child may use what its parent's own file defines.

use std::path::{Path, PathBuf};

use regex::Regex;

/// The path of a module from the root, `a::b`, and the paths that its code outside tests names.
type Module = (String, Vec<String>);

/// Adds the module in `file`, then those below it, in the order of their `mod` lines.
fn read(file: &Path, folder: PathBuf, path: &str, all: &mut Vec<Module>) {
    let pattern = |pattern: &str| Regex::new(pattern).unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    let tests = r"(?s)#\[cfg\([^\n]*test[^\n]*\n(?:[^\n]*mod \w+ \{.*|[^\n]*)|//[^\n]*";
    let text = pattern(tests).replace_all(&text, "");
    let mut uses = Vec::new();
    for found in pattern(r"((?:\w+::)+)\{?([\w\s,]+)").captures_iter(&text) {
        let (mut base, mut head) = (path, &found[1]);
        while let Some(rest) = head.strip_prefix("super::") {
            (base, head) = (base.rsplit_once("::").map_or("", |(up, _)| up), rest);
        }
        let base = if head.starts_with("crate::") {
            ""
        } else {
            base
        };
        let head = join(base, head.trim_start_matches("crate::"));
        uses.extend(found[2].split(',').map(|name| head.clone() + name.trim()));
    }
    all.push((path.into(), uses));
    for child in pattern(r"(?m)^(?:pub.*)?mod (\w+);").captures_iter(&text) {
        let nested = folder.join(&child[1]);
        let files = [nested.with_extension("rs"), nested.join("mod.rs")];
        let file = files.iter().find(|file| file.exists()).unwrap();
        read(file, nested, &join(path, &child[1]), all);
    }
}

fn join(head: &str, tail: &str) -> String {
    format!("{head}::{tail}").trim_start_matches("::").into()
}

/// The place of the module that defines what a path names; re-exports are followed.
fn home(path: &str, all: &[Module]) -> usize {
    let whole = join(path, "");
    let holds = |module: &Module| whole.starts_with(&join(&module.0, ""));
    let place = all.iter().rposition(holds).unwrap_or(0);
    let rest = path[all[place].0.len()..].trim_start_matches("::");
    let name = rest.split("::").next().filter(|name| !name.is_empty());
    let brings = |import: &&String| import.rsplit("::").next() == name && *import != path;
    let import = all[place].1.iter().find(brings);
    import.map_or(place, |import| home(import, all))
}

#[test]
fn a_file_uses_only_what_stands_above_it() {
    let mut back = Vec::new();
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for root in std::fs::read_dir(crates)
        .unwrap()
        .map(|root| root.unwrap().path().join("src"))
    {
        let files = [root.join("lib.rs"), root.join("main.rs")];
        let file = files.iter().find(|file| file.exists()).unwrap();
        let mut all = Vec::new();
        read(file, root.clone(), "", &mut all);
        for (place, (user, uses)) in all.iter().enumerate().skip(1) {
            for path in uses {
                let used = home(path, &all);
                if used > place && !all[used].0.starts_with(&join(user, "")) {
                    back.push(format!("{}: {user} uses {path}", root.display()));
                }
            }
        }
    }
    assert!(back.is_empty(), "arrows back:\n{}", back.join("\n"));
}
