"""Drawing: nothing here changes a number; scaling is for display and shown in the colour bar."""
