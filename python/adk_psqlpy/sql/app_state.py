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

from adk_psqlpy.sql.functions import Function


def with_app_state(inner: Function, app_states: str, at: str) -> Function:
    """A function that calls another one, and then merges the delta of an app. It has one more parameter, the delta.
    It is not distributed (`local_definition`).

    Args:
        inner: the function for the user's rows, `nested`. It has a parameter `app`, and gives a row if it wrote.
            If it has the column `app_state`, that becomes the state of the app afterwards.
        app_states: the table of app states, quoted.
        at: the parameter of `inner` with the time.
    """
    columns = [name for name, _ in inner.returns]
    returning = "RETURNING state INTO app_state" if "app_state" in columns else ""
    arguments = ", ".join(f"p_{name}" for name, _ in inner.parameters)
    selected = f"""SELECT {", ".join(f'f."{name}"' for name in columns)} INTO {", ".join(columns)} FROM"""
    return Function(
        table=inner.table,
        purpose=f"{inner.purpose}_app",
        parameters=(*inner.parameters, ("delta_of_app", "jsonb")),
        returns=inner.returns,
        body=f"""
                BEGIN
                    IF {inner.has_variant} THEN
                        {selected} {inner.nested_name}({arguments}) AS f;
                    ELSE
                        {selected} {inner.name}({arguments}) AS f;
                    END IF;
                    IF NOT FOUND THEN
                        RETURN;
                    END IF;
                    INSERT INTO {app_states} AS stored (app_name, state, update_time)
                    VALUES (p_app, p_delta_of_app, p_{at})
                    ON CONFLICT (app_name) DO UPDATE
                        SET state = stored.state || excluded.state, update_time = excluded.update_time
                    {returning};
                    RETURN NEXT;
                END""",
    )
