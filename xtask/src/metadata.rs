//! What `cargo metadata` says of the workspace and of everything that it depends on.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::shell;

/// The answer of `cargo metadata`, as far as the checks need it.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
    resolve: Resolve,
}

/// One crate.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) source: Option<String>,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Debug, Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Debug, Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

/// Who depends on whom by name, without what only tests need.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// The crates of the workspace.
    pub(crate) members: BTreeSet<String>,
    edges: BTreeMap<String, BTreeSet<String>>,
}

impl Metadata {
    /// Asks cargo; for the platform that vouch runs on, so that another platform's crates don't count.
    pub(crate) fn read() -> Result<Self> {
        let text = shell::output(shell::cargo().args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--filter-platform=x86_64-unknown-linux-gnu",
        ]))?;
        serde_json::from_str(&text).context("can't read what `cargo metadata` wrote")
    }

    /// Returns the integration tests of the crates of the workspace that `of` chooses by name.
    pub(crate) fn integration_tests(&self, of: impl Fn(&str) -> bool) -> BTreeSet<&str> {
        let members = self.packages.iter().filter(|package| self.workspace_members.contains(&package.id));
        let targets = members.filter(|package| of(&package.name)).flat_map(|package| &package.targets);
        targets.filter(|target| target.kind.contains("test")).map(|target| target.name.as_str()).collect()
    }

    /// Returns the graph of normal and build dependencies.
    pub(crate) fn graph(&self) -> Graph {
        let names: BTreeMap<&str, &str> =
            self.packages.iter().map(|package| (package.id.as_str(), package.name.as_str())).collect();
        let name = |id: &str| names.get(id).copied().unwrap_or(id).to_owned();
        let mut graph = Graph::default();
        graph.members.extend(self.workspace_members.iter().map(|id| name(id)));
        for node in &self.resolve.nodes {
            let edges = graph.edges.entry(name(&node.id)).or_default();
            let counts = |edge: &&Edge| edge.dep_kinds.iter().any(|kind| kind.kind.as_deref() != Some("dev"));
            edges.extend(node.deps.iter().filter(counts).map(|edge| name(&edge.pkg)));
        }
        graph
    }
}

impl Graph {
    /// Returns the crates that this one names in its manifest.
    pub(crate) fn direct(&self, of: &str) -> impl Iterator<Item = &str> {
        self.edges.get(of).into_iter().flatten().map(String::as_str)
    }

    /// Returns the shortest way from one crate to another, both included, or `None` if there is none.
    pub(crate) fn way(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let mut ways = vec![vec![from.to_owned()]];
        let mut seen = BTreeSet::from([from.to_owned()]);
        while !ways.is_empty() {
            let mut longer = Vec::new();
            for way in ways {
                let Some(last) = way.last() else { continue };
                for next in self.direct(last) {
                    if !seen.insert(next.to_owned()) {
                        continue;
                    }
                    let mut way = way.clone();
                    way.push(next.to_owned());
                    if next == to {
                        return Some(way);
                    }
                    longer.push(way);
                }
            }
            ways = longer;
        }
        None
    }

    #[cfg(test)]
    pub(crate) fn of(members: &[&str], edges: &[(&str, &str)]) -> Self {
        let mut graph = Self { members: members.iter().map(|&name| name.to_owned()).collect(), ..Self::default() };
        for (from, to) in edges {
            graph.edges.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        graph
    }
}
