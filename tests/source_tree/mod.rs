//! The source files of the crate, and which file uses which names of which other file.

mod cycles;
mod paths;
mod source_file;
mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    slice,
};

pub use cycles::find_cycles;
use source_file::{ModulePath, SourceFile};

/// For each file, the files that it uses, each with the names that it uses of it.
pub type FileUses = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// The source files of a crate by their modules.
#[derive(Debug)]
pub struct SourceTree(BTreeMap<ModulePath, SourceFile>);

/// The definition of an item.
struct Definition {
    module: ModulePath,
    name: String,
}

impl SourceTree {
    /// Reads the files of this crate, except the program's and those with unit tests.
    pub fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        collect_files(&root, &mut files);
        files.retain(|file| !file.ends_with("tests.rs") && !file.ends_with("main.rs"));
        Self::parse(files.iter().map(|file| {
            let name = file.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(file).unwrap())
        }))
    }

    /// Parses files, each with its name and its code.
    pub fn parse(files: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>) -> Self {
        let files = files.into_iter().map(|(name, code)| SourceFile::parse(name.as_ref(), code.as_ref()));
        Self(files.map(|file| (file.module.clone(), file)).collect())
    }

    pub fn files(&self) -> impl Iterator<Item = &SourceFile> {
        self.0.values()
    }

    /// The top-level modules that a file uses, besides its own.
    pub fn used_modules(&self, file: &SourceFile) -> BTreeSet<String> {
        let mut used: BTreeSet<_> =
            self.used_paths(file).filter_map(|path| path.into_iter().next()).collect();
        used.retain(|name| self.0.contains_key(slice::from_ref(name)) && name != file.top_level_module());
        used
    }

    pub fn file_uses(&self) -> FileUses {
        self.files().map(|file| (file.name.clone(), self.used_files(file))).collect()
    }

    fn used_files(&self, file: &SourceFile) -> BTreeMap<String, BTreeSet<String>> {
        let mut used: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for Definition { module, name } in
            self.used_paths(file).filter_map(|path| self.find_definition(&path))
        {
            if module != file.module {
                used.entry(self.0[&module].name.clone()).or_default().insert(name);
            }
        }
        used
    }

    /// The paths in this crate that a file uses. A re-export alone is not a use.
    fn used_paths(&self, file: &SourceFile) -> impl Iterator<Item = Vec<String>> {
        let imports =
            file.imports.iter().filter(|import| !import.public || file.words.contains(&import.name));
        imports
            .map(|import| &import.path)
            .chain(&file.paths)
            .filter_map(|path| self.resolve(&file.module, path))
    }

    /// Resolves a path that is written in `module` to one in the crate, or `None` if it leads elsewhere.
    fn resolve(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let base = match first.as_str() {
            "crate" => Vec::new(),
            "self" => module.to_vec(),
            "super" => {
                let parent = module.split_last()?.1;
                if rest.first().is_some_and(|name| name == "super") {
                    return self.resolve(parent, rest);
                }
                parent.to_vec()
            }
            name if self.0.contains_key(&[module, slice::from_ref(first)].concat()) => {
                [module, &[name.to_owned()]].concat()
            }
            name => {
                let import = self.0.get(module)?.find_import(name)?;
                // `use async_trait::async_trait` imports from a crate.
                (import.path[0] != name).then(|| self.resolve(module, &import.path))??
            }
        };
        Some([base, rest.to_vec()].concat())
    }

    /// Finds the definition of the item at a path in the crate, through re-exports. `None` for a module as
    /// such: what is used of it has a path of its own.
    fn find_definition(&self, path: &[String]) -> Option<Definition> {
        let is_module = |length: &usize| self.0.contains_key(&path[..*length]);
        let module_length = (0..=path.len()).take_while(is_module).last()?;
        let (module, rest) = path.split_at(module_length);
        let name = rest.first()?;
        let Some(import) = self.0[module].find_import(name) else {
            return Some(Definition { module: module.to_vec(), name: name.clone() });
        };
        self.find_definition(&[self.resolve(module, &import.path)?, rest[1..].to_vec()].concat())
    }
}

fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
