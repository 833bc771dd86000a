"""The command `longrecon`: one module a verb, imported when the verb is called."""
