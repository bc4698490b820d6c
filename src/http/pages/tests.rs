//! The files as a browser gets them, and the laws that keep them small and harmless.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::*;

fn text(file: &File) -> &str {
    std::str::from_utf8(file.bytes).unwrap()
}

#[test]
fn every_file_of_the_folder_is_served_and_stays_readable() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/pages/files");
    let there: BTreeSet<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(there, FILES.iter().map(|file| file.name.to_owned()).collect());
    for file in FILES {
        assert!(text(file).lines().count() <= 600, "{} is too long", file.name);
    }
}

#[test]
fn nothing_is_inline_from_elsewhere_or_made_of_markup() {
    for file in FILES {
        let text = text(file);
        for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
            assert!(!text.contains(word), "{}: {word}", file.name);
        }
        let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("http://") && !elsewhere.contains("https://"), "{}: another host", file.name);
    }
    let index = text(FILES.iter().find(|file| file.name == "index.html").unwrap());
    for word in ["<style", " style=", " onclick=", " onload=", "<script>"] {
        assert!(!index.contains(word), "inline: {word}");
    }
}

#[test]
fn a_file_that_the_browser_has_is_not_sent_again() {
    let first = serve("app.js", &HeaderMap::new());
    assert_eq!(first.status(), StatusCode::OK);
    assert_eq!(first.headers()[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
    let policy = first.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
    let tag = first.headers()[header::ETAG].clone();
    let again = serve("app.js", &HeaderMap::from_iter([(header::IF_NONE_MATCH, tag)]));
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    let other = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static("\"0\""))]);
    assert_eq!(serve("app.js", &other).status(), StatusCode::OK);
    assert_eq!(serve("../mod.rs", &HeaderMap::new()).status(), StatusCode::NOT_FOUND);
}
