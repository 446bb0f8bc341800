"""Writes that change the state of an app, where tables are distributed.

The state of apps is in a table on the coordinator, which every node can use. A write with a delta of it is a
transaction of two nodes: that of the user's rows, and the coordinator.

The function here begins it on the node that is asked, which should be the coordinator. First it calls the function of
the user's rows, which Citus delegates. If that wrote, it merges the delta into the app's row. That comes last, since
others may wait for this row. Then the node of the user prepares, the coordinator commits, and the node commits what it
prepared. So if the node of the user dies meanwhile, the row of the app is free: only a transaction that the
coordinator did not begin would hold it until that node is back.

If the user's shard has no function of its own, because it was split, the statements are executed from here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from adk_psqlpy.sql.functions import Function, named


@dataclass(frozen=True)
class WithAppState:
    """A function that calls another one, and then merges the delta of an app. It has one more parameter, the delta.

    Attributes:
        inner: the function for the user's rows, `nested`. It has a parameter `app`, and gives a row if it wrote.
            If it has the column `app_state`, that becomes the state of the app afterwards.
        app_states: the table of app states, quoted.
        at: the parameter of `inner` with the time.
    """

    inner: Function
    app_states: str
    at: str

    @property
    def name(self) -> str:
        """The quoted name of the function, in the schema of the table."""
        told = hashlib.sha256((self.inner.name + self._body).encode()).hexdigest()[:10]
        return named(self.inner.table, f"{self.inner.purpose}_app", told)

    def call_with(self, values: list[str]) -> str:
        """A statement that only calls the function, with SQL values for the parameters of `inner` and the delta."""
        columns = ", ".join(f'"{name}"' for name, _ in self.inner.returns)
        given = zip(values, self._parameters, strict=True)
        return f"SELECT {columns} FROM {self.name}({', '.join(f'{value}::{kind}' for value, (_, kind) in given)})"

    @property
    def definition(self) -> str:
        """A batch that creates the function on every node, if it is missing."""
        kinds = ", ".join(kind for _, kind in self._parameters)
        given = ", ".join(f"p_{name} {kind}" for name, kind in self._parameters)
        columns = ", ".join(f'"{name}" {kind}' for name, kind in self.inner.returns)
        return f"""
        DO $function$ BEGIN
            IF to_regprocedure('{self.name}({kinds})') IS NULL THEN
                CREATE FUNCTION {self.name}({given}) RETURNS TABLE ({columns})
                LANGUAGE plpgsql AS $body$
                #variable_conflict use_column
                {self._body}
                $body$;
            END IF;
        END $function$;
        """

    @property
    def _parameters(self) -> tuple[tuple[str, str], ...]:
        return (*self.inner.parameters, ("delta_of_app", "jsonb"))

    @property
    def _body(self) -> str:
        columns = [name for name, _ in self.inner.returns]
        returning = "RETURNING state INTO app_state" if "app_state" in columns else ""
        arguments = ", ".join(f"p_{name}" for name, _ in self.inner.parameters)
        selected = f"""SELECT {", ".join(f'f."{name}"' for name in columns)} INTO {", ".join(columns)} FROM"""
        return f"""
                BEGIN
                    IF {self.inner.has_variant} THEN
                        {selected} {self.inner.nested_name}({arguments}) AS f;
                    ELSE
                        {selected} {self.inner.name}({arguments}) AS f;
                    END IF;
                    IF NOT FOUND THEN
                        RETURN;
                    END IF;
                    INSERT INTO {self.app_states} AS stored (app_name, state, update_time)
                    VALUES (p_app, p_delta_of_app, p_{self.at})
                    ON CONFLICT (app_name) DO UPDATE
                        SET state = stored.state || excluded.state, update_time = excluded.update_time
                    {returning};
                    RETURN NEXT;
                END"""
