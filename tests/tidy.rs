//! Holds the house in order: which way imports go, where sockets and the clock may be named, how long
//! a file may grow, and what lies at the top level.

use std::fs;
use std::path::{Path, PathBuf};

/// Layers from the bottom to the top: a module may import from its own layer and those before it.
const LAYERS: &[&[&str]] = &[
    &["limits"],
    &["primitives"],
    &["identity"],
    &["wire"],
    &["proto"],
    &["net"],
    &["agent", "admin"],
    &["cli", "ffi", "manual"],
    &["bench"],
];

/// Longest file, in lines without its tests.
const FILE_LINES: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no Rust files under {}", folder.display());
    found
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// The code of a file: without comments, and without the tests at its end.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    lines.filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| {
        let part = part.as_os_str();
        part == "tests" || part == "tests.rs"
    })
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn imports_go_one_way() {
    let mut wrong = Vec::new();
    for path in rust_files(&root().join("src")) {
        let relative = path.strip_prefix(root().join("src")).unwrap();
        let module = relative.components().next().unwrap().as_os_str().to_string_lossy();
        let module = module.trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let own = layer_of(module).unwrap_or_else(|| panic!("'{module}' is in no layer"));
        for piece in code(&path).split("crate::").skip(1) {
            let end = piece.find(|c: char| !c.is_alphanumeric() && c != '_');
            let imported = &piece[..end.unwrap_or(piece.len())];
            let at = layer_of(imported)
                .unwrap_or_else(|| panic!("{}: 'crate::{imported}' is in no layer", name(&path)));
            if at > own {
                wrong.push(format!("{} imports crate::{imported}", name(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn bytes_and_machines_know_no_sockets_and_no_clock() {
    const FORBIDDEN: &[&str] = &[
        "mio",
        "socket2",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "Instant::now",
        "SystemTime",
        "getrandom",
        "std::thread",
    ];
    for part in ["src/wire", "src/proto"] {
        for path in rust_files(&root().join(part)).iter().filter(|path| !is_test(path)) {
            for word in FORBIDDEN {
                assert!(!code(path).contains(word), "{} names {word}", name(path));
            }
        }
    }
}

#[test]
fn unsafe_code_is_where_it_may_be() {
    for path in rust_files(&root().join("src")) {
        let allowed = path.ends_with("net/sys.rs") || path.starts_with(root().join("src/ffi"));
        let found = code(&path).contains("unsafe ");
        assert!(allowed || !found, "{} holds unsafe code", name(&path));
    }
}

#[test]
fn no_file_grows_into_a_giant() {
    for folder in ["src", "bin", "tests"] {
        for path in rust_files(&root().join(folder)) {
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
            assert!(lines <= FILE_LINES, "{}: {lines} lines before its tests", name(&path));
        }
    }
}

#[test]
fn the_top_level_holds_what_it_should() {
    const EXPECTED: &[&str] = &[
        ".ci",
        ".git",
        ".gitignore",
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "benches",
        "bin",
        "clippy.toml",
        "examples",
        "rustfmt.toml",
        "src",
        "target",
        "tests",
    ];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(
            EXPECTED.iter().any(|expected| name == *expected),
            "a stray file at the top level: {}",
            name.display()
        );
    }
}

#[test]
fn every_limit_is_used() {
    let limits = fs::read_to_string(root().join("src/limits.rs")).unwrap();
    let everything: String =
        rust_files(&root().join("src")).iter().map(|path| code(path)).collect();
    for line in limits.lines().filter_map(|line| line.strip_prefix("pub const ")) {
        let constant = line.split(':').next().unwrap();
        let uses = everything.matches(constant).count();
        assert!(uses > 1, "limits::{constant} bounds nothing");
    }
}
