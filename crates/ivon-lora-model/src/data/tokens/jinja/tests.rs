//! Every template of testdata/templates against the result of transformers, and malicious
//! templates.

use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::Template;
use crate::testing;

/// Rendered by transformers, refused here: a number too large for a float, and names whose order
/// minijinja does not keep.
const REFUSED: [&str; 3] = [
    "{{ 1e400 }}",
    "{{ dict(b=1, a=2) }}",
    "{{ dict({'x': 1}, y=2, b=3) }}",
];

fn table() -> Json {
    let path = testing::golden().join("../templates/expressions.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn rendered(source: &str) -> Result<String, String> {
    let table = table();
    let tokens = table["tokens"].as_object().unwrap().iter();
    let tokens: Vec<_> = tokens
        .map(|(name, text)| (name.clone(), text.as_str().unwrap().to_string()))
        .collect();
    Template::compile(source)?.render(table["messages"][0]["content"].as_str().unwrap(), &tokens)
}

#[test]
fn templates_render_as_in_transformers() {
    let table = table();
    let cases = table["cases"].as_array().unwrap();
    assert!(cases.len() > 100);
    for case in cases {
        let template = case["template"].as_str().unwrap();
        match (rendered(template), case["rendered"].as_str()) {
            (Err(_), Some(_)) if REFUSED.contains(&template) => {}
            (ours, Some(theirs)) => assert_eq!(ours.as_deref(), Ok(theirs), "{template}"),
            // Templates that transformers refuses may be rendered; but of these, only the length of
            // a generator is.
            (ours, None) => assert!(ours.is_err(), "{template}: {ours:?}"),
        }
    }
}

/// The templates of testdata/templates/families, by name.
fn family_templates() -> Vec<(String, String)> {
    let folder = testing::workspace().join("testdata/templates/families");
    let files = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let named = files.map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        (name, std::fs::read_to_string(path).unwrap())
    });
    named.collect()
}

#[test]
fn templates_of_every_family_render_as_in_transformers() {
    let path = testing::workspace().join("testdata/templates/families.json");
    let table: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let tokens = table["tokens"].as_object().unwrap().iter();
    let tokens: Vec<_> = tokens
        .map(|(name, text)| (name.clone(), text.as_str().unwrap().to_string()))
        .collect();
    let prompt = table["prompt"].as_str().unwrap();
    let templates = family_templates();
    assert_eq!(
        templates.len(),
        table["families"].as_object().unwrap().len()
    );
    for (family, template) in templates {
        for (conversation, prelude) in table["preludes"].as_object().unwrap() {
            let source = format!("{}{template}", prelude.as_str().unwrap());
            let ours = Template::compile(&source).and_then(|it| it.render(prompt, &tokens));
            match table["families"][&family][conversation]["rendered"].as_str() {
                Some(theirs) => assert_eq!(ours.as_deref(), Ok(theirs), "{family}: {conversation}"),
                None => assert!(ours.is_err(), "{family}: {conversation}: {ours:?}"),
            }
        }
    }
}

/// The message with which a template is refused, in less than a second.
fn refused(source: &str) -> String {
    let started = Instant::now();
    let error = rendered(source).expect_err(source);
    // Rendered to its end, each of these would take hours; how fast a loaded machine is matters not.
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{source} took {:?}",
        started.elapsed()
    );
    error
}

const TOO_MUCH: &str = "it takes more steps, or makes more text, than a prompt needs";

#[test]
fn templates_that_run_without_end_are_stopped() {
    for source in [
        "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
        "{% set s = range(900) | list %}{% for i in range(90000) %}{% if s == range(900) | list %}{% endif %}{% endfor %}",
        "{% set s = 'a' * 900000 %}{% set t = 'a' * 900000 %}{% for i in range(90000) %}{% if s == t %}{% endif %}{% endfor %}",
        "{% set s = 'a ' * 300000 %}{% for i in range(90000) %}{% if s.split() %}{% endif %}{% endfor %}",
        "{% for i in range(90000) %}{{ -1 in range(90000) }}{{ range(90000).count(1) }}{% endfor %}",
        "{% for i in range(90000) %}{% if [range(90000)] == [range(90000)] %}{% endif %}{% endfor %}",
        "{{ 2 in [1] * 100000000 }}",
    ] {
        assert_eq!(refused(source), TOO_MUCH, "{source}");
    }
    assert!(
        refused("{% for i in range(10**9) %}{% endfor %}")
            .contains("a range has more than 100000 numbers")
    );
    assert!(
        refused("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}")
            .contains("recursion limit exceeded")
    );
    assert!(
        refused("{% for x in [[1]] recursive %}{{ loop([x]) }}{% endfor %}")
            .contains("recursion limit exceeded")
    );
}

#[test]
fn templates_that_grow_without_end_are_stopped() {
    for source in [
        "{{ 'a' * 10**9 }}",
        "{{ ['a'] * 10**9 }}",
        "{{ ('a',) * 10**9 }}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{{ (['a'] * 10000) | join('b' * 100000) }}",
        "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
        "{{ ('a' * 100000).replace('', 'b' * 100000) }}",
        "{{ ('b' * 100000).join(['a'] * 10000) }}",
        "{{ ('a\\n' * 100000) | indent(1000) }}",
    ] {
        assert_eq!(refused(source), TOO_MUCH, "{source}");
    }
    for (source, expected) in [
        (
            "{{ '%999999999d' % 1 }}",
            "`%` pads to 999999999, expected at most 1000",
        ),
        (
            "{{ '{:999999999}'.format(1) }}",
            "`format` pads to at most 1000",
        ),
        ("{{ 'a'.ljust(999999999) }}", "`ljust` pads to at most 1000"),
        (
            "{{ messages | tojson(indent=999999999) }}",
            "`tojson` indents by at most 1000 blanks",
        ),
        (
            "{% set a = range(90000) | list %}",
            "a variable holds more than 1000 values",
        ),
        (
            "{% set a = 'a' * 3000000 %}",
            "a variable holds more than 1048576 bytes of text",
        ),
        (
            "{% macro m(x, n) %}{% if n %}{{ m([x, x, x, x], n - 1) }}{% else %}{{ x }}{% endif %}{% endmacro %}{{ m(1, 30) }}",
            "a variable holds more than 1000 values",
        ),
        ("{{ 10 ** 10 ** 10 }}", "unable to calculate"),
    ] {
        let message = refused(source);
        assert!(message.contains(expected), "{source}: {message}");
    }
}

#[test]
fn templates_that_nest_too_deep_are_refused_before_they_are_parsed() {
    let long = |part: &str| format!("{{{{ a{} }}}}", part.repeat(2000));
    for part in [
        ".b",
        "|b",
        " is b",
        " if b",
        " and b",
        "+1",
        "-1",
        "**1",
        "~1",
        "()",
        "[0]",
        " if b else c",
    ] {
        let message = refused(&long(part));
        assert!(
            message.contains("more than 1000 parts side by side"),
            "{part}: {message}"
        );
    }
    assert!(refused(&format!("{{{{ {}1 }}}}", "-".repeat(2000))).contains("side by side"));
    assert!(refused(&format!("{{{{ {}1 }}}}", "not ".repeat(2000))).contains("side by side"));
    for [open, close] in [["(", ")"], ["[", "]"], ["{1:", "}"], ["f(", ")"]] {
        let message = refused(&format!(
            "{{{{ {}1{} }}}}",
            open.repeat(99),
            close.repeat(99)
        ));
        assert_eq!(message, "its brackets nest more than 32 deep");
    }
    let blocks = format!("{}{}", "{% if 1 %}".repeat(99), "{% endif %}".repeat(99));
    assert_eq!(refused(&blocks), "its blocks nest more than 64 deep");
    let branches = format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(99));
    assert_eq!(refused(&branches), "its blocks nest more than 64 deep");
    assert!(
        refused("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}")
            .contains("a namespace inside a namespace")
    );
    let deep = "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}";
    assert!(refused(deep).contains("a variable holds values nested more than 64 deep"));
    assert_eq!(
        refused(&" ".repeat(2 << 20)),
        "it has 2097152 bytes, expected at most 1048576"
    );
}

#[test]
fn what_is_allowed_at_the_bounds_renders() {
    let chain = format!("{{{{ 0{} }}}}", "-1".repeat(499));
    assert_eq!(rendered(&chain).as_deref(), Ok("-499"));
    let calls = format!("{{{{ ''{} }}}}", "|string".repeat(499));
    assert_eq!(rendered(&calls).as_deref(), Ok(""));
    let brackets = format!("{{{{ {}1{} }}}}", "[".repeat(32), "]".repeat(32));
    assert!(rendered(&brackets).unwrap().starts_with("[[["));
    let blocks = format!("{}x{}", "{% if 1 %}".repeat(64), "{% endif %}".repeat(64));
    assert_eq!(rendered(&blocks).as_deref(), Ok("x"));
    let macros =
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{% else %}end{% endif %}{% endmacro %}{{ m(30) }}";
    assert_eq!(rendered(macros).as_deref(), Ok("end"));
}

#[test]
fn broken_templates_are_refused_with_a_sentence() {
    for source in [
        "{{ 1 ",
        "{{ [1 }}",
        "{% if %}",
        "{% foo %}",
        "{{ }}",
        "{% endif %}",
        "{{ 'abc }}",
        "{# x",
        "{% raw %}",
        "{{ 1 + }}",
        "{{ % 2 }}",
        "{{ ~ 1 }}",
        "{% set = 2 %}",
        "{% set x = %}",
        "{% for %}",
        "{% macro %}",
        "{{ '\\N{DASH}' }}",
        "{{ '\\ud800' }}",
        "{{ a b }}",
        "{{ 1 ? 2 }}",
        "{% if 1 %}",
    ] {
        assert!(!refused(source).is_empty(), "{source}");
    }
}

#[test]
fn a_long_prompt_is_no_reason_to_refuse() {
    let prompt = "word ".repeat(200_000);
    let source =
        "{% for m in messages %}{% set c = m.content | trim %}{{ '<u>' + c ~ '</u>' }}{% endfor %}";
    let text = Template::compile(source)
        .unwrap()
        .render(&prompt, &[])
        .unwrap();
    assert_eq!(text, format!("<u>{}</u>", prompt.trim()));
}
