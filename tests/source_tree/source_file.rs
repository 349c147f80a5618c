//! One source file.

use std::{collections::BTreeSet, path::Path};

use super::{
    paths::{Import, collect_imports, collect_paths, remove_imports},
    tokens::{remove_test_items, tokenize},
};

/// The path of a module in the crate: its names, without `crate`.
pub type ModulePath = Vec<String>;

/// The imports and paths of a source file, without those of its unit tests.
#[derive(Debug)]
pub struct SourceFile {
    /// Relative to `src`.
    pub name: String,
    pub module: ModulePath,
    pub imports: Vec<Import>,
    /// The paths outside of imports, as they are written.
    pub paths: Vec<Vec<String>>,
    /// The words outside of imports.
    pub words: BTreeSet<String>,
}

impl SourceFile {
    pub fn parse(name: &str, code: &str) -> Self {
        let tokens = remove_test_items(&tokenize(code));
        let body = remove_imports(&tokens);
        Self {
            name: name.to_owned(),
            module: module_path(name),
            imports: collect_imports(&tokens),
            paths: collect_paths(&body),
            words: body.into_iter().collect(),
        }
    }

    pub fn top_level_module(&self) -> &str {
        self.module.first().map_or("lib", String::as_str)
    }

    /// Whether a path begins with the name of this external crate.
    pub fn uses_crate(&self, name: &str) -> bool {
        self.imports.iter().map(|import| &import.path).chain(&self.paths).any(|path| path[0] == name)
    }

    pub fn find_import(&self, name: &str) -> Option<&Import> {
        self.imports.iter().find(|import| import.name == name)
    }
}

/// The module of a file: `log` of `log/mod.rs`, and the crate of `lib.rs`.
fn module_path(file: &str) -> ModulePath {
    let names = Path::new(file).with_extension("");
    let mut path: Vec<_> = names.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    path.pop_if(|name| name == "mod" || name == "lib");
    path
}
