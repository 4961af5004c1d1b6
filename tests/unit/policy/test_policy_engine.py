"""The engine's decisions: equal to Cedar's own, never an allow while the engine fails, and the same again."""



