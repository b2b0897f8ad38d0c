"""What only this repository needs: `make reproduce`, `verify`, `report`, `bench`."""
