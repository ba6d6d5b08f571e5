"""Tables, migrations, connections and the built-in PostgreSQL."""
