//! The tokens of Rust code, as far as paths need them.

/// Splits code into words, `::`, and single characters. Comments and literals are left out.
pub fn tokenize(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            _ if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            _ if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => string_length(rest),
            '\'' => char_or_lifetime_length(rest),
            _ if is_word(first) => {
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                if let Some(string) = raw_string_length(&rest[..length], &rest[length..]) {
                    length + string
                } else {
                    tokens.push(rest[..length].to_owned());
                    length
                }
            }
            _ if rest.starts_with("::") => {
                tokens.push("::".to_owned());
                2
            }
            _ => {
                tokens.extend(Some(first).filter(|c| !c.is_whitespace()).map(String::from));
                first.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    tokens
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The length of the string literal at the beginning of `code`.
fn string_length(code: &str) -> usize {
    let mut escaped = false;
    let is_end = |(_, character): &(usize, char)| {
        let is_end = *character == '"' && !escaped;
        escaped = *character == '\\' && !escaped;
        is_end
    };
    code.char_indices().skip(1).find(is_end).map_or(code.len(), |(end, _)| end + 1)
}

/// The length of what follows the prefix of a raw string.
fn raw_string_length(prefix: &str, code: &str) -> Option<usize> {
    let hashes = code.len() - code.trim_start_matches('#').len();
    let is_raw = matches!(prefix, "r" | "br" | "cr") && code[hashes..].starts_with('"');
    let end = format!("\"{}", "#".repeat(hashes));
    is_raw.then(|| code[hashes + 1..].find(&end).map_or(code.len(), |at| hashes + 1 + at + end.len()))
}

fn char_or_lifetime_length(code: &str) -> usize {
    let mut characters = code.char_indices().skip(1);
    let (Some((_, first)), Some((_, second))) = (characters.next(), characters.next()) else { return 1 };
    match (first, second) {
        ('\\', _) => characters.find(|(_, c)| *c == '\'').map_or(code.len(), |(end, _)| end + 1),
        (_, '\'') => 2 + first.len_utf8(),
        _ => 1,
    }
}

/// Removes each item with the attribute `#[cfg(test)]`.
pub fn remove_test_items(tokens: &[String]) -> Vec<String> {
    const ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].iter().take(ATTRIBUTE.len()).eq(ATTRIBUTE.iter()) {
            at += item_length(&tokens[at..]);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// The length of the item at the beginning of `tokens`: up to a semicolon or a block outside of brackets.
fn item_length(tokens: &[String]) -> usize {
    let mut depth = 0_usize;
    let is_end = |token: &String| {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        depth == 0 && matches!(token.as_str(), "}" | ";")
    };
    tokens.iter().position(is_end).map_or(tokens.len(), |end| end + 1)
}
