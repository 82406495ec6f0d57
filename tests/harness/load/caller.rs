//! Who sends requests.

/// A kind of request and where it must go.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Name in the tables.
    pub name: String,
    /// Values of `user`, taken in turn; empty: no such header.
    pub users: Vec<String>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// Callers of different groups must never share an upstream connection.
    pub group: String,
    /// Link by which the request must arrive.
    pub link: String,
}

impl Caller {
    /// One user, whose group is the user.
    #[must_use]
    pub fn user(name: &str, link: &str) -> Self {
        Self {
            name: name.to_owned(),
            users: vec![name.to_owned()],
            headers: Vec::new(),
            group: name.to_owned(),
            link: link.to_owned(),
        }
    }

    /// The same with another group.
    #[must_use]
    pub fn grouped(mut self, group: &str) -> Self {
        group.clone_into(&mut self.group);
        self
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}
