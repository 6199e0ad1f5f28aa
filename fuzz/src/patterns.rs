//! A pattern in the first line, and names in the others. The pattern matches those that it matches in a
//! reference as simple as possible.

use actix_transport::test_internals::tls::Pattern;

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (text, names) = text.split_once('\n').unwrap_or((&text, ""));
    let Some(pattern) = Pattern::read(text) else {
        return;
    };
    for name in names.split('\n') {
        let (dns, uri) = (
            text == "*" || dns(text, name),
            text == "*" || uri(text, name),
        );
        assert_eq!(pattern.matches_dns(name), dns, "{text} {name}");
        assert_eq!(pattern.matches_uri(name), uri, "{text} {name}");
    }
}

fn dns(pattern: &str, name: &str) -> bool {
    let labels = |text: &str| -> Vec<String> {
        let text = text.to_ascii_lowercase();
        let text = text.strip_suffix('.').unwrap_or(&text);
        text.split('.').map(str::to_owned).collect()
    };
    let (pattern, name) = (labels(pattern), labels(name));
    let plain = |label: &String| {
        let known = |char: char| matches!(char, 'a'..='z' | '0'..='9' | '-' | '_');
        !label.is_empty() && label.len() <= 63 && label.chars().all(known)
    };
    name.iter().all(plain) && name.join(".").len() <= 253 && all_fit(&pattern, &name)
}

fn uri(pattern: &str, uri: &str) -> bool {
    let known = |char: char| char.is_ascii_alphanumeric() || "-._~%!$&'()+,;=:@/".contains(char);
    if uri.len() > 2048 || !uri.chars().all(known) {
        return false;
    }
    let (Some(pattern), Some(uri)) = (Uri::split(pattern), Uri::split(uri)) else {
        return false;
    };
    let host = !uri.host.concat().is_empty() && all_fit(&pattern.host, &uri.host);
    uri.scheme == pattern.scheme && host && all_fit(&pattern.path, &uri.path)
}

struct Uri {
    scheme: String,
    /// The parts between the signs, and the signs themselves.
    host: Vec<String>,
    path: Vec<String>,
}

impl Uri {
    fn split(text: &str) -> Option<Uri> {
        let (scheme, rest) = text.split_once("://")?;
        let mut segments = rest.split('/').map(str::to_owned);
        let mut host = vec![String::new()];
        for char in segments.next()?.to_ascii_lowercase().chars() {
            match char {
                '.' | ':' | '@' => host.extend([char.to_string(), String::new()]),
                _ => host.last_mut()?.push(char),
            }
        }
        Some(Uri {
            scheme: scheme.to_ascii_lowercase(),
            host,
            path: segments.collect(),
        })
    }
}

fn all_fit(patterns: &[String], parts: &[String]) -> bool {
    let mut pairs = patterns.iter().zip(parts);
    patterns.len() == parts.len() && pairs.all(|(pattern, part)| fits(pattern, part))
}

/// Keeps a note of each position in the pattern that may have been reached.
fn fits(pattern: &str, part: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let mut reached = vec![false; pattern.len() + 1];
    reached[0] = true;
    skip_stars(&pattern, &mut reached);
    for char in part.chars() {
        let mut next = vec![false; pattern.len() + 1];
        for (at, expected) in pattern.iter().enumerate() {
            if reached[at] && *expected == '*' {
                next[at] = true;
            } else if reached[at] && *expected == char {
                next[at + 1] = true;
            }
        }
        skip_stars(&pattern, &mut next);
        reached = next;
    }
    reached[pattern.len()]
}

/// A star may stand for nothing.
fn skip_stars(pattern: &[char], reached: &mut [bool]) {
    for (at, char) in pattern.iter().enumerate() {
        reached[at + 1] |= reached[at] && *char == '*';
    }
}
