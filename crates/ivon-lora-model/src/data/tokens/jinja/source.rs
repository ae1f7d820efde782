//! Rewrites the source of a template so that minijinja reads it as Jinja2 reads the original.
//!
//! Line ends are normalised, string literals are decoded by Python's rules, and the operators `%`,
//! `~`, `+` and `*`, which minijinja computes differently or without charging for them, become
//! function calls. Values stored in a variable pass through a function that limits their size. The
//! nesting is limited too, because minijinja's parser and its values are recursive.

use super::lexer::{Node, Piece, Tag, pieces};

/// The functions that the rewritten source calls.
pub(super) const CONCATENATED: &str = "__concatenated";
pub(super) const DICT: &str = "__dict";
pub(super) const PRODUCT: &str = "__product";
pub(super) const REMAINDER: &str = "__remainder";
pub(super) const SUM: &str = "__sum";
pub(super) const STORED: &str = "__stored";
pub(super) const ATTRIBUTE: &str = "__attribute";
pub(super) const GENERATION: &str = "__generation";

/// The maximum length of a template in bytes.
const LONGEST: usize = 1 << 20;
/// The maximum nesting of blocks; each `elif` counts as one level.
const DEEPEST_BLOCKS: usize = 64;

/// Names that transformers' environment lacks: a template that uses them fails there, too.
const UNKNOWN: [&str; 8] = [
    "include",
    "import",
    "from",
    "extends",
    "do",
    "autoescape",
    "trans",
    "debug",
];
const PRECEDENCE_BELOW_SUM: [&str; 20] = [
    ",",
    ":",
    "=",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "and",
    "or",
    "not",
    "in",
    "if",
    "else",
    "for",
    "recursive",
    "elif",
    "set",
    "with",
];

/// A rewritten template.
pub(super) struct Rewritten {
    pub text: String,
    /// Whether it has `{% generation %}`.
    pub marks_generation: bool,
}

/// Rewrites a template.
///
/// # Errors
/// A message if the template is too long or too deep, or uses something that transformers'
/// environment lacks or that minijinja cannot do in the same way.
pub(super) fn rewritten(source: &str) -> Result<Rewritten, String> {
    if source.len() > LONGEST {
        return Err(format!(
            "it has {} bytes, expected at most {LONGEST}",
            source.len()
        ));
    }
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut written = String::with_capacity(source.len() + source.len() / 4);
    let mut depth = Vec::new();
    let mut marks_generation = false;
    for piece in pieces(&source)? {
        match piece {
            Piece::Verbatim(text) => written.push_str(text),
            Piece::Tag(tag) => {
                if tag.open.starts_with("{%") {
                    check_depth(&tag, &mut depth)?;
                    marks_generation |= tag.keyword() == "generation";
                }
                write_tag(&tag, &mut written)?;
            }
        }
    }
    Ok(Rewritten {
        text: written,
        marks_generation,
    })
}

/// Counts open blocks and their `elif` branches, which nest as blocks do.
fn check_depth(tag: &Tag<'_>, open: &mut Vec<usize>) -> Result<(), String> {
    let word = tag.keyword();
    let is_block = match word {
        "set" => !tag.nodes.iter().any(|node| node.is("=")),
        other => [
            "if",
            "for",
            "macro",
            "call",
            "filter",
            "with",
            "generation",
            "block",
        ]
        .contains(&other),
    };
    if is_block {
        open.push(1);
    } else if word.starts_with("end") {
        open.pop();
    } else if word == "elif" {
        open.last_mut().into_iter().for_each(|count| *count += 1);
    }
    match open.iter().sum::<usize>() {
        deep if deep > DEEPEST_BLOCKS => {
            Err(format!("its blocks nest more than {DEEPEST_BLOCKS} deep"))
        }
        _ => Ok(()),
    }
}

fn write_tag(tag: &Tag<'_>, written: &mut String) -> Result<(), String> {
    let word = if tag.open.starts_with("{%") {
        tag.keyword()
    } else {
        ""
    };
    if UNKNOWN.contains(&word) {
        return Err(format!(
            "it uses `{{% {word} %}}`, which transformers does not know"
        ));
    }
    written.push_str(tag.open);
    written.push(' ');
    let nodes = &tag.nodes[..];
    match word {
        // A scope, as in transformers' extension: variables set inside stay inside. The last tag is
        // a block, so that the line end after it is treated as the original's.
        "generation" => written.push_str(&format!(
            "with %}}{{{{ {GENERATION}(true) }}}}{{% set {GENERATION}_ = 0"
        )),
        "endgeneration" => written.push_str(&format!(
            "set {GENERATION}_ = 0 %}}{{{{ {GENERATION}(false) }}}}{{% endwith"
        )),
        "set" => match nodes.iter().position(|node| node.is("=")) {
            Some(at) => written.push_str(&assignment(&nodes[..at], &nodes[at + 1..])?),
            None => written.push_str(&expressions(nodes)?),
        },
        _ => written.push_str(&expressions(nodes)?),
    }
    // Keeps the line numbers of error messages.
    written.push_str(&"\n".repeat(tag.lines));
    let bounded = bounded_names(word, nodes);
    if bounded.is_empty() {
        written.push_str(tag.close);
        return Ok(());
    }
    // Arguments are limited before the body sees them.
    written.push_str("%}");
    for (index, name) in bounded.iter().enumerate() {
        let close = if index + 1 == bounded.len() {
            tag.close
        } else {
            "%}"
        };
        written.push_str(&format!("{{% set {name} = {STORED}({name}) {close}"));
    }
    Ok(())
}

/// `set NAME = VALUE` with the value passed through the function that limits it.
fn assignment(name: &[Node<'_>], value: &[Node<'_>]) -> Result<String, String> {
    let is_attribute = name[1..].iter().any(|node| node.is("."));
    let function = if is_attribute { ATTRIBUTE } else { STORED };
    let value = expressions(value)?;
    if value.is_empty() {
        return Err("a `set` of it has no value".into());
    }
    Ok(format!("{} = {function}(({value}))", plain(name)?))
}

/// The names that a macro, a call block or a recursive loop binds at each recursion.
fn bounded_names<'a>(word: &str, nodes: &'a [Node<'a>]) -> Vec<&'a str> {
    let names = |nodes: &'a [Node<'a>]| -> Vec<&'a str> {
        let parts = nodes.split(|node| node.is(","));
        parts.filter_map(|part| part.first()?.name()).collect()
    };
    match (word, nodes) {
        ("macro", [_, _, Node::Group(_, inside, _), ..])
        | ("call", [_, Node::Group(_, inside, _), ..]) => names(inside),
        ("for", nodes) if nodes.iter().any(|node| node.is("recursive")) => {
            let targets = nodes.iter().take_while(|node| !node.is("in")).skip(1);
            let flat = targets.flat_map(|node| match node {
                Node::Group(_, inside, _) => inside.iter().collect(),
                other => vec![other],
            });
            flat.filter_map(Node::name).collect()
        }
        _ => Vec::new(),
    }
}

/// A bracketed group. A dict becomes a call, because minijinja's own do not keep the order of keys.
fn grouped(open: char, nodes: &[Node<'_>], close: char) -> Result<String, String> {
    if open != '{' {
        return Ok(format!("{open}{}{close}", expressions(nodes)?));
    }
    let entries = nodes.split(|node| node.is(","));
    let entries = entries.filter(|entry| !entry.is_empty()).map(|entry| {
        let colon = entry.iter().position(|node| node.is(":"));
        let colon = colon.ok_or("a dict of it has a key without a value")?;
        let parts = [
            expressions(&entry[..colon])?,
            expressions(&entry[colon + 1..])?,
        ];
        match parts.iter().any(String::is_empty) {
            true => Err("a dict of it has a key without a value".to_string()),
            false => Ok(parts.join(", ")),
        }
    });
    Ok(format!(
        "{DICT}({})",
        entries.collect::<Result<Vec<_>, String>>()?.join(", ")
    ))
}

/// The nodes, unchanged.
fn plain(nodes: &[Node<'_>]) -> Result<String, String> {
    let words = nodes
        .iter()
        .map(|node| node.text(grouped))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(words.join(" "))
}

/// Expressions with separators of lower precedence than `+` between them.
fn expressions(nodes: &[Node<'_>]) -> Result<String, String> {
    let mut written = Vec::new();
    let mut start = 0;
    for (index, node) in nodes.iter().enumerate() {
        // `is not` and `is in` are parts of a test, which binds tighter than any operator.
        let after_is = |back: usize| {
            index
                .checked_sub(back)
                .is_some_and(|before| nodes[before].is("is"))
        };
        let in_test = node.is("not") && after_is(1)
            || node.is("in") && (after_is(1) || after_is(2) && nodes[index - 1].is("not"));
        // A name after a dot or before `=` is not a keyword.
        let is_attribute = index > 0 && nodes[index - 1].is(".");
        if PRECEDENCE_BELOW_SUM.iter().any(|word| node.is(word)) && !in_test && !is_attribute {
            written.push(sum(&nodes[start..index])?);
            written.push(node.text(grouped)?);
            start = index + 1;
        }
    }
    written.push(sum(&nodes[start..])?);
    written.retain(|part| !part.is_empty());
    Ok(written.join(" "))
}

/// `a + b - c`: `+` becomes a call, because a string marked safe escapes what is added to it.
fn sum(nodes: &[Node<'_>]) -> Result<String, String> {
    // `*list` and `**mapping` in the arguments of a call.
    if let [first, rest @ ..] = nodes
        && (first.is("*") || first.is("**"))
    {
        return Ok(format!("{}{}", plain(&nodes[..1])?, sum(rest)?));
    }
    folded(nodes, &["+", "-"], concatenation, |operator| {
        (operator == "+").then_some(SUM)
    })
}

/// `a ~ b ~ c`.
fn concatenation(nodes: &[Node<'_>]) -> Result<String, String> {
    let parts = nodes.split(|node| node.is("~"));
    let parts = parts.map(product).collect::<Result<Vec<_>, _>>()?;
    match &parts[..] {
        [one] => Ok(one.clone()),
        many if many.iter().any(String::is_empty) => Err("an operator of it lacks a side".into()),
        many => Ok(format!("{CONCATENATED}({})", many.join(", "))),
    }
}

/// `a * b % c`.
fn product(nodes: &[Node<'_>]) -> Result<String, String> {
    folded(
        nodes,
        &["*", "/", "//", "%"],
        plain,
        |operator| match operator {
            "*" => Some(PRODUCT),
            "%" => Some(REMAINDER),
            _ => None,
        },
    )
}

/// A left-associative chain of operators of one precedence; some of them become calls, with
/// successive operands as arguments of one call.
fn folded(
    nodes: &[Node<'_>],
    operators: &[&str],
    operand: impl Fn(&[Node<'_>]) -> Result<String, String>,
    function: impl Fn(&str) -> Option<&'static str>,
) -> Result<String, String> {
    let mut written = String::new();
    let mut pending = None;
    let mut in_call = None;
    let mut start = 0;
    for index in 0..=nodes.len() {
        let operator = nodes.get(index).and_then(|node| node.operator(operators));
        // A sign is part of its operand; Python's `+x` is x.
        let is_sign = index == start || nodes.get(index - 1).is_some_and(Node::is_operator);
        if index < nodes.len() && (operator.is_none() || is_sign) {
            continue;
        }
        let plus = usize::from(nodes.get(start).is_some_and(|node| node.is("+")));
        let nodes_of_right = nodes.get(start + plus..index).unwrap_or_default();
        if nodes_of_right.is_empty() && (pending.is_some() || operator.is_some() || plus > 0) {
            return Err("an operator of it lacks a side".into());
        }
        let right = operand(nodes_of_right)?;
        let name = pending.and_then(&function);
        if in_call.is_some() && in_call != name {
            written.push(')');
        }
        match (pending, name) {
            (None, _) => written = right,
            (Some(_), Some(_)) if in_call == name => written += &format!(", {right}"),
            (Some(_), Some(name)) => written = format!("{name}({written}, {right}"),
            (Some(operator), None) => written += &format!(" {operator} {right}"),
        }
        in_call = name;
        pending = operator;
        start = index + 1;
    }
    written += if in_call.is_some() { ")" } else { "" };
    Ok(written)
}
