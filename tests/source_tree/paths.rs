//! The imports and paths in the tokens of a file.

/// One name that a `use` declaration imports.
#[derive(Debug, PartialEq)]
pub struct Import {
    /// The path as it is written.
    pub path: Vec<String>,
    /// The name in this file.
    pub name: String,
    /// A re-export.
    pub public: bool,
}

pub fn collect_imports(tokens: &[String]) -> Vec<Import> {
    let mut imports = Vec::new();
    for declaration in find_imports(tokens) {
        let public = is_public(&tokens[..declaration.start]);
        parse_use_tree(&tokens[declaration.start + 1..declaration.end], &[], public, &mut imports);
    }
    imports
}

/// Removes all `use` declarations.
pub fn remove_imports(tokens: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut from = 0;
    for declaration in find_imports(tokens) {
        kept.extend_from_slice(&tokens[from..declaration.start]);
        from = declaration.end;
    }
    kept.extend_from_slice(&tokens[from..]);
    kept
}

/// Finds each `use` declaration, from `use` up to its semicolon.
fn find_imports(tokens: &[String]) -> impl Iterator<Item = std::ops::Range<usize>> {
    // `use<…>` is a bound.
    let starts = (0..tokens.len()).filter(|&at| tokens[at] == "use" && tokens[at + 1] != "<");
    starts.map(|start| start..start + tokens[start..].iter().position(|token| token == ";").unwrap())
}

/// Whether what precedes an item is `pub` or `pub(…)`.
fn is_public(before: &[String]) -> bool {
    let restricted = before.last().is_some_and(|token| token == ")");
    let visibility =
        if restricted { before.iter().rposition(|token| token == "(") } else { Some(before.len()) };
    visibility.is_some_and(|end| before[..end].last().is_some_and(|token| token == "pub"))
}

/// Parses `a::{b, c::d as e}`.
fn parse_use_tree(tree: &[String], parent: &[String], public: bool, imports: &mut Vec<Import>) {
    if let Some(open) = tree.iter().position(|token| token == "{") {
        let parent = [parent, &names(&tree[..open])].concat();
        for part in split_at_commas(&tree[open + 1..tree.len() - 1]) {
            parse_use_tree(part, &parent, public, imports);
        }
        return;
    }
    let (tree, alias) = match tree.iter().position(|token| token == "as") {
        Some(at) => (&tree[..at], tree.get(at + 1)),
        None => (tree, None),
    };
    let mut path = [parent, &names(tree)].concat();
    if path.len() > 1 && path.last().is_some_and(|name| name == "self") {
        path.pop();
    }
    let name = alias.or(path.last()).cloned();
    imports.extend(name.map(|name| Import { path, name, public }));
}

fn names(path: &[String]) -> Vec<String> {
    path.iter().filter(|token| *token != "::").cloned().collect()
}

/// Splits at the commas outside of braces.
fn split_at_commas(tokens: &[String]) -> impl Iterator<Item = &[String]> {
    let mut depth = 0_usize;
    let parts = tokens.split(move |token| {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        depth == 0 && token == ","
    });
    parts.filter(|part| !part.is_empty())
}

/// The paths of two names or more.
pub fn collect_paths(tokens: &[String]) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let mut path = vec![tokens[at].clone()];
        while is_name(&tokens[at])
            && tokens.get(at + 1).is_some_and(|token| token == "::")
            && tokens.get(at + 2).is_some_and(|token| is_name(token))
        {
            path.push(tokens[at + 2].clone());
            at += 2;
        }
        if path.len() > 1 {
            paths.push(path);
        }
        at += 1;
    }
    paths
}

fn is_name(token: &str) -> bool {
    token.starts_with(|character: char| character.is_alphabetic() || character == '_')
}
