//! What a role may do with a kind of resource: the one table.

use super::Role;

/// What there is to see and to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are the API's resources")]
pub enum Kind {
    Entity,
    Network,
    Host,
    Node,
    /// Moving a node to another host.
    Move,
    Rule,
    /// What would happen to a packet.
    RuleTest,
    Peering,
    Token,
    Audit,
    Event,
    Status,
    Backup,
    /// The API's own description.
    Document,
}

impl Kind {
    /// As messages and the audit log have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Entity => "entity",
            Self::Network => "network",
            Self::Host => "host",
            // A move is something that happens to a node.
            Self::Node | Self::Move => "node",
            Self::Rule => "rule",
            Self::RuleTest => "rule test",
            Self::Peering => "peering",
            Self::Token => "token",
            Self::Audit => "audit log",
            Self::Event => "event",
            Self::Status => "status",
            Self::Backup => "backup",
            Self::Document => "document",
        }
    }
}

/// What is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Seen: alone, or in a list.
    Read,
    /// Made, or brought to what is asked.
    Put,
    /// Deleted.
    Delete,
}

/// What is said to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Whosoever it is.
    Any,
    /// If it belongs to the caller's entity; what does not, does not exist for the caller.
    Own,
    /// No.
    Never,
}

/// What `role` may do. Deny by default: an entity's role has what is named here and nothing else.
#[must_use]
pub const fn decide(role: &Role, kind: Kind, verb: Verb) -> Decision {
    match (role, kind, verb) {
        (Role::Operator, ..) => Decision::Any,
        (Role::Backup, Kind::Backup, Verb::Read) => Decision::Any,
        (Role::Entity(_), Kind::Document, Verb::Read) => Decision::Any,
        (Role::Entity(_), Kind::Network | Kind::Node | Kind::Rule | Kind::Peering, _) => Decision::Own,
        (Role::Entity(_), Kind::Entity | Kind::RuleTest | Kind::Audit, Verb::Read) => Decision::Own,
        (Role::Entity(_) | Role::Backup, ..) => Decision::Never,
    }
}

/// What a path of the API (as the OpenAPI document has it) and a method are about. `None`: nobody has decided, and nobody
/// gets there.
#[must_use]
pub fn of_route(method: &str, path: &str) -> Option<(Kind, Verb)> {
    let verb = match method {
        "GET" | "HEAD" => Verb::Read,
        "PUT" | "POST" => Verb::Put,
        "DELETE" => Verb::Delete,
        _ => return None,
    };
    let kind = match (path, method) {
        ("/v1/entities" | "/v1/entities/{id}", _) => Kind::Entity,
        (
            "/v1/networks" | "/v1/networks/{id}" | "/v1/networks/{id}/groups" | "/v1/networks/{id}/routes",
            _,
        ) => Kind::Network,
        ("/v1/hosts" | "/v1/hosts/{id}", _) => Kind::Host,
        ("/v1/nodes" | "/v1/nodes/{id}", _) => Kind::Node,
        ("/v1/nodes/{id}/move", _) => Kind::Move,
        // It changes nothing.
        ("/v1/rules/test", "POST") => return Some((Kind::RuleTest, Verb::Read)),
        ("/v1/rules/test", _) => Kind::RuleTest,
        ("/v1/rules" | "/v1/rules/{id}", _) => Kind::Rule,
        ("/v1/peerings" | "/v1/peerings/{id}", _) => Kind::Peering,
        ("/v1/tokens" | "/v1/tokens/{id}", _) => Kind::Token,
        ("/v1/audit", _) => Kind::Audit,
        ("/v1/events", _) => Kind::Event,
        ("/v1/status", _) => Kind::Status,
        ("/v1/backup", _) => Kind::Backup,
        ("/v1/openapi.json", _) => Kind::Document,
        _ => return None,
    };
    Some((kind, verb))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_gets_nowhere_that_is_not_named() {
        let entity = Role::Entity("acme".to_owned());
        for kind in [Kind::Host, Kind::Move, Kind::Token, Kind::Event, Kind::Status, Kind::Backup] {
            for verb in [Verb::Read, Verb::Put, Verb::Delete] {
                assert_eq!(decide(&entity, kind, verb), Decision::Never, "{kind:?} {verb:?}");
            }
        }
        for verb in [Verb::Put, Verb::Delete] {
            assert_eq!(decide(&entity, Kind::Entity, verb), Decision::Never);
            assert_eq!(decide(&entity, Kind::Audit, verb), Decision::Never);
        }
        assert_eq!(decide(&Role::Backup, Kind::Status, Verb::Read), Decision::Never);
        assert_eq!(of_route("GET", "/v1/new"), None);
        assert_eq!(of_route("PATCH", "/v1/nodes"), None);
    }
}
